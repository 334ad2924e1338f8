//! The source's own properties; those of signaling are in `signaling/settings.rs`. To add one: a field in [`Settings`] and
//! a row in [`table`].

use crate::{
    codec::{CODECS, Codec},
    property::{PropertyTable, field},
    signaling::SignalingSettings,
};
use gst::{glib, prelude::*};
use room_signaling_client::protocol::ClientId;
use std::sync::LazyLock;

/// The jitter buffer's latency in ms.
const DEFAULT_LATENCY_MS: u32 = 50;

/// The values of the source's writable properties.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) signaling: SignalingSettings,
    pub(super) sender_id: Option<String>,
    pub(super) latency_ms: u32,
    pub(super) codecs: Vec<String>,
    pub(super) retransmission: bool,
    pub(super) eos_on_bye: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            signaling: SignalingSettings::default(),
            sender_id: None,
            latency_ms: DEFAULT_LATENCY_MS,
            codecs: CODECS.iter().map(|codec| codec.name.to_owned()).collect(),
            retransmission: true,
            eos_on_bye: false,
        }
    }
}

static PROPERTIES: LazyLock<PropertyTable<Settings>> = LazyLock::new(table);

fn table() -> PropertyTable<Settings> {
    PropertyTable::new(vec![
        field!(
            glib::ParamSpecString::builder("sender-id")
                .nick("Sender id")
                .blurb("Id of the only sender to receive from (null: the first sender, and when it has left, the next one)")
                .mutable_ready(),
            sender_id
        ),
        field!(
            glib::ParamSpecUInt::builder("latency")
                .nick("Latency")
                .blurb("Time in ms for which packets may be late, reordered or retransmitted before they count as lost")
                .default_value(DEFAULT_LATENCY_MS)
                .maximum(60_000)
                .mutable_ready(),
            latency_ms
        ),
        field!(
            gst::ParamSpecArray::builder("codecs")
                .nick("Codecs")
                .blurb("Codecs to accept, as <h264, vp8, opus>; other streams are not received (default: all of these)")
                .element_spec(
                    &glib::ParamSpecString::builder("codec").nick("Codec").blurb("h264, vp8 or opus").build(),
                )
                .mutable_ready(),
            codecs
        ),
        field!(
            glib::ParamSpecBoolean::builder("retransmission")
                .nick("Retransmission")
                .blurb("Request retransmission of lost packets (NACK and RTX, RFC 4585 and RFC 4588)")
                .default_value(true)
                .mutable_ready(),
            retransmission
        ),
        field!(
            glib::ParamSpecBoolean::builder("eos-on-bye")
                .nick("EOS on bye")
                .blurb(
                    "Send EOS on all pads and leave the room when the sender says bye, which it also does at its own EOS \
                     (false: wait for this sender or the next one, and resume on the same pads)",
                )
                .default_value(false)
                .mutable_playing(),
            eos_on_bye
        ),
    ])
}

/// The specifications of all properties in [`Settings`], and of the read-only ones of signaling.
pub(super) fn properties() -> Vec<glib::ParamSpec> {
    crate::signaling::properties().into_iter().chain(table().into_specs()).collect()
}

impl Settings {
    /// Sets a property. False if the source has no writable property of this name.
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        PROPERTIES.set(self, name, value) || self.signaling.set(name, value)
    }

    /// The value of a property. `None` if the source has no writable property of this name.
    pub(super) fn get(&self, name: &str) -> Option<glib::Value> {
        PROPERTIES.get(self, name).or_else(|| self.signaling.get(name))
    }

    /// Checks the values. The error names the property and a valid value.
    pub(super) fn check(&self) -> Result<(), String> {
        self.wanted_sender()?;
        if let Some(codec) = self.codecs.iter().find(|name| Codec::of_name(name).is_none()) {
            return Err(format!("codecs has {codec:?}: the known codecs are {}", known_codecs()));
        }
        if self.codecs.is_empty() {
            return Err(format!(
                "codecs is empty, so nothing could be received: the known codecs are {}",
                known_codecs()
            ));
        }
        Ok(())
    }

    /// The value of `sender-id`. The error says why it is no id.
    pub(super) fn wanted_sender(&self) -> Result<Option<ClientId>, String> {
        let check = |id: &String| ClientId::new(id).map_err(|error| format!("sender-id is {id:?}: {error}"));
        self.sender_id.as_ref().map(check).transpose()
    }

    /// The value of `latency`.
    pub(super) fn latency(&self) -> gst::ClockTime {
        gst::ClockTime::from_mseconds(self.latency_ms.into())
    }
}

fn known_codecs() -> String {
    CODECS.map(|codec| codec.name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_can_be_set_and_read_back() {
        gst::init().expect("GStreamer");
        let mut settings = Settings::default();
        for (name, value) in [
            ("sender-id", "客厅".to_value()),
            ("latency", 0u32.to_value()),
            ("codecs", gst::Array::new(["vp8"]).to_value()),
            ("retransmission", false.to_value()),
            ("eos-on-bye", true.to_value()),
            ("room", "a".to_value()),
        ] {
            assert!(settings.set(name, &value), "{name} can't be set");
            let back = settings.get(name).expect(name);
            assert_eq!(back.serialize().ok(), value.serialize().ok(), "{name}");
        }
        assert!(settings.check().is_ok());
        assert!(!settings.set("no-such", &"".to_value()));
    }

    #[test]
    fn an_invalid_value_is_an_error_that_names_the_property() {
        gst::init().expect("GStreamer");
        let mut settings = Settings::default();
        assert!(settings.check().is_ok());
        settings.set("codecs", &gst::Array::new(["h264", "theora"]).to_value());
        assert!(settings.check().expect_err("theora").contains("h264, vp8, opus"));
        settings.set("codecs", &gst::Array::new([""; 0]).to_value());
        assert!(settings.check().expect_err("nothing").contains("codecs"));
        let mut settings = Settings::default();
        settings.set("sender-id", &" x".to_value());
        assert!(settings.check().expect_err("white space").contains("sender-id"));
    }
}
