//! Tables of properties: the specification of each property stands beside the code that reads and sets its value.
//!
//! A property of one element is a row in `sink/settings.rs` or `source/settings.rs`; a property of both is a row in
//! `signaling/settings.rs`. Read-only properties are rows in `signaling/status.rs` and `sink/published.rs`.

use gst::{glib, prelude::*};
use gst_webrtc::WebRTCICETransportPolicy;
use std::time::Duration;

/// One property of `S`.
pub(crate) struct Property<S> {
    spec: glib::ParamSpec,
    get: fn(&S) -> glib::Value,
    set: fn(&mut S, &glib::Value, &glib::ParamSpec),
}

impl<S> Property<S> {
    /// A property with accessors; see [`field!`] for one that is a field of `S`.
    pub(crate) fn new(
        spec: glib::ParamSpec,
        get: fn(&S) -> glib::Value,
        set: fn(&mut S, &glib::Value, &glib::ParamSpec),
    ) -> Self {
        Self { spec, get, set }
    }

    /// A property that cannot be set.
    pub(crate) fn read_only(spec: glib::ParamSpec, get: fn(&S) -> glib::Value) -> Self {
        Self { spec, get, set: |_, _, _| {} }
    }
}

/// A row of a [`PropertyTable`]: a specification and the field that holds the value.
macro_rules! field {
    ($spec:expr, $($field:ident).+) => {
        $crate::property::Property::new(
            $spec.build(),
            |settings| $crate::property::PropertyValue::to_property(&settings.$($field).+),
            |settings, value, spec| {
                if let Some(value) = $crate::property::PropertyValue::from_property(value, spec) {
                    settings.$($field).+ = value;
                }
            },
        )
    };
}
pub(crate) use field;

/// The properties whose values are in `S`.
pub(crate) struct PropertyTable<S>(Vec<Property<S>>);

impl<S> PropertyTable<S> {
    pub(crate) fn new(rows: Vec<Property<S>>) -> Self {
        Self(rows)
    }

    /// The specifications, for `ObjectImpl::properties`. Because GObject installs a specification in one class only, each
    /// class needs a table of its own here.
    pub(crate) fn into_specs(self) -> impl Iterator<Item = glib::ParamSpec> {
        self.0.into_iter().map(|row| row.spec)
    }

    /// The value of a property. `None` if the table has no property of this name.
    pub(crate) fn get(&self, settings: &S, name: &str) -> Option<glib::Value> {
        self.row(name).map(|row| (row.get)(settings))
    }

    /// Sets a property. False if the table has no property of this name.
    pub(crate) fn set(&self, settings: &mut S, name: &str, value: &glib::Value) -> bool {
        self.row(name).inspect(|row| (row.set)(settings, value, &row.spec)).is_some()
    }

    fn row(&self, name: &str) -> Option<&Property<S>> {
        self.0.iter().find(|row| row.spec.name() == name)
    }
}

/// A field that can be the value of a property.
pub(crate) trait PropertyValue: Sized {
    fn to_property(&self) -> glib::Value;
    /// `None` if the value has another type, which GObject excludes.
    fn from_property(value: &glib::Value, spec: &glib::ParamSpec) -> Option<Self>;
}

macro_rules! property_value {
    ($($type:ty),+) => {$(
        impl PropertyValue for $type {
            fn to_property(&self) -> glib::Value {
                self.to_value()
            }

            fn from_property(value: &glib::Value, _: &glib::ParamSpec) -> Option<Self> {
                value.get().ok()
            }
        }
    )+};
}

property_value!(bool, u32, WebRTCICETransportPolicy);

impl PropertyValue for u16 {
    fn to_property(&self) -> glib::Value {
        u32::from(*self).to_value()
    }

    fn from_property(value: &glib::Value, _: &glib::ParamSpec) -> Option<Self> {
        value.get::<u32>().ok()?.try_into().ok()
    }
}

/// In milliseconds.
impl PropertyValue for Duration {
    fn to_property(&self) -> glib::Value {
        u32::try_from(self.as_millis()).unwrap_or(u32::MAX).to_value()
    }

    fn from_property(value: &glib::Value, _: &glib::ParamSpec) -> Option<Self> {
        value.get::<u32>().ok().map(|milliseconds| Self::from_millis(milliseconds.into()))
    }
}

/// The empty string means the same as null.
impl PropertyValue for Option<String> {
    fn to_property(&self) -> glib::Value {
        self.to_value()
    }

    fn from_property(value: &glib::Value, _: &glib::ParamSpec) -> Option<Self> {
        Some(value.get::<Self>().ok()?.filter(|text| !text.is_empty()))
    }
}

/// Null and the empty string mean the default.
impl PropertyValue for String {
    fn to_property(&self) -> glib::Value {
        self.to_value()
    }

    fn from_property(value: &glib::Value, spec: &glib::ParamSpec) -> Option<Self> {
        Option::from_property(value, spec).flatten().or_else(|| spec.default_value().get().ok())
    }
}

/// A `GstValueArray` of strings. Elements of other types are ignored.
impl PropertyValue for Vec<String> {
    fn to_property(&self) -> glib::Value {
        gst::Array::new(self).to_value()
    }

    fn from_property(value: &glib::Value, _: &glib::ParamSpec) -> Option<Self> {
        let list = value.get::<gst::ArrayRef<'_>>();
        Some(list.map(|list| list.iter().filter_map(|text| text.get().ok()).collect()).unwrap_or_default())
    }
}
