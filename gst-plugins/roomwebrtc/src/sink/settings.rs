//! The sink's own properties; those of signaling are in `signaling/settings.rs`. To add one: a field in [`Settings`] and a
//! row in [`table`]. A property that takes effect in PLAYING is a field of [`RuntimeSettings`].

use crate::property::{Property, PropertyTable, field};
use gst::{glib, prelude::*};
use std::{sync::LazyLock, time::Duration};

/// The values of the sink's own properties.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent switch")]
pub(crate) struct Settings {
    pub(crate) runtime: RuntimeSettings,
    pub(crate) target_id: Option<String>,
    pub(crate) retransmission: bool,
    pub(crate) tune_upstream: bool,
    pub(crate) data_channel: bool,
    pub(crate) run_signaling_server: bool,
    pub(crate) signaling_server_listen: String,
    pub(crate) signaling_server_allow_hosts: Vec<String>,
}

/// The values of the properties that take effect in every state. Others take effect when the element starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RuntimeSettings {
    pub(crate) keyframe_interval_min: Duration,
    /// 0: no limit.
    pub(crate) max_receivers: u32,
    pub(crate) receiver_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            runtime: RuntimeSettings {
                keyframe_interval_min: Duration::from_millis(500),
                max_receivers: 0,
                receiver_timeout: Duration::from_secs(15),
            },
            target_id: None,
            retransmission: true,
            tune_upstream: true,
            data_channel: false,
            run_signaling_server: false,
            signaling_server_listen: "127.0.0.1:8765".into(),
            signaling_server_allow_hosts: Vec::new(),
        }
    }
}

static PROPERTIES: LazyLock<PropertyTable<Settings>> = LazyLock::new(table);

fn table() -> PropertyTable<Settings> {
    PropertyTable::new(sending_rows().into_iter().chain(server_rows()).collect())
}

fn flag(
    name: &'static str,
    nick: &'static str,
    blurb: &'static str,
    default: bool,
) -> glib::ParamSpecBooleanBuilder<'static> {
    glib::ParamSpecBoolean::builder(name).nick(nick).blurb(blurb).default_value(default).mutable_ready()
}

fn sending_rows() -> Vec<Property<Settings>> {
    let defaults = Settings::default();
    let number = |name, nick, blurb, default: u32| {
        glib::ParamSpecUInt::builder(name).nick(nick).blurb(blurb).default_value(default).mutable_playing()
    };
    let milliseconds = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
    vec![
        field!(
            glib::ParamSpecString::builder("target-id")
                .nick("Target id")
                .blurb("Id of the only receiver to serve (null: serve every receiver)")
                .mutable_ready(),
            target_id
        ),
        field!(
            number(
                "keyframe-interval-min",
                "Minimum keyframe interval",
                "Minimum time in ms between two keyframes that receivers or the application request from the encoder",
                milliseconds(defaults.runtime.keyframe_interval_min),
            ),
            runtime.keyframe_interval_min
        ),
        field!(
            flag(
                "retransmission",
                "Retransmission",
                "Retransmit lost packets that receivers request (NACK and RTX, RFC 4585 and RFC 4588)",
                defaults.retransmission,
            ),
            retransmission
        ),
        field!(
            number(
                "max-receivers",
                "Maximum receivers",
                "Maximum number of receivers to serve at the same time; others wait in the order of their arrival (0: no \
                 limit)",
                defaults.runtime.max_receivers,
            ),
            runtime.max_receivers
        ),
        field!(
            number(
                "receiver-timeout",
                "Receiver timeout",
                "Time in ms without RTCP after which a session ends; never less than three RTCP intervals of the receiver",
                milliseconds(defaults.runtime.receiver_timeout),
            ),
            runtime.receiver_timeout
        ),
        field!(
            flag(
                "tune-upstream",
                "Tune upstream",
                "Configure a known upstream encoder for low latency (x264enc: tune=zerolatency, ...), leaving properties that the user changed alone",
                defaults.tune_upstream,
            ),
            tune_upstream
        ),
        field!(
            flag(
                "data-channel",
                "Data channel",
                "Offer every receiver a data channel named room, for the action send-data and the signal data",
                defaults.data_channel,
            ),
            data_channel
        ),
    ]
}

fn server_rows() -> Vec<Property<Settings>> {
    let defaults = Settings::default();
    vec![
        field!(
            flag(
                "run-signaling-server",
                "Run signaling server",
                "Run a signaling server with the viewer page in this process, and join a room on it (signaling-uri is ignored)",
                defaults.run_signaling_server,
            ),
            run_signaling_server
        ),
        field!(
            glib::ParamSpecString::builder("signaling-server-listen")
                .nick("Signaling server listen address")
                .blurb(
                    "Address and port on which the embedded signaling server (run-signaling-server) listens; port 0 selects \
                     a free port",
                )
                .default_value(defaults.signaling_server_listen.as_str())
                .mutable_ready(),
            signaling_server_listen
        ),
        field!(
            gst::ParamSpecArray::builder("signaling-server-allow-hosts")
                .nick("Signaling server host names")
                .blurb(
                    "Host names under which the embedded signaling server serves the viewer page, in addition to localhost, \
                     its address, and the name of this machine with and without .local: <\"robot.example\", ...>; \"*\" \
                     allows any (default: none)",
                )
                .element_spec(
                    &glib::ParamSpecString::builder("host").nick("Host name").blurb("name or name:port").build(),
                )
                .mutable_ready(),
            signaling_server_allow_hosts
        ),
    ]
}

/// The specifications of the properties in [`Settings`].
pub(crate) fn properties() -> impl Iterator<Item = glib::ParamSpec> {
    table().into_specs()
}

impl Settings {
    /// Sets a property. False if the sink has no property of this name.
    pub(crate) fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        PROPERTIES.set(self, name, value)
    }

    /// The value of a property. `None` if the sink has no property of this name.
    pub(crate) fn get(&self, name: &str) -> Option<glib::Value> {
        PROPERTIES.get(self, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_has_its_documented_default_and_can_be_set() {
        gst::init().expect("GStreamer");
        let mut settings = Settings::default();
        for spec in properties() {
            let name = spec.name();
            let before = settings.get(name).expect(name);
            let text = |value: &glib::Value| value.serialize().ok();
            // GStreamer gives every array the default null.
            if name != "signaling-server-allow-hosts" {
                assert_eq!(text(&before), text(spec.default_value()), "{name}");
            }
            let value = match before.type_() {
                glib::Type::BOOL => (!before.get::<bool>().expect(name)).to_value(),
                glib::Type::U32 => 1234_u32.to_value(),
                glib::Type::STRING => "other".to_value(),
                _ => gst::Array::new(["robot.example"]).to_value(),
            };
            assert!(settings.set(name, &value), "{name}");
            assert_eq!(text(&settings.get(name).expect(name)), text(&value), "{name}");
        }
        assert!(settings.set("signaling-server-listen", &None::<String>.to_value()));
        assert_eq!(settings.signaling_server_listen, Settings::default().signaling_server_listen);
        assert!(!settings.set("no-such", &true.to_value()));
    }
}
