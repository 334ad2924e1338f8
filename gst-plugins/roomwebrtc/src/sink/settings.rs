//! The sink's own properties, beside those of signaling.

use gst::{glib, prelude::*};
use std::time::Duration;

/// The values of the sink's own properties.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
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

/// The values of the properties that take effect at once. All others take effect when the element starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RuntimeSettings {
    pub(crate) keyframe_interval_min: Duration,
    /// 0 is no limit.
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

/// The property specifications of [`Settings`].
pub(crate) fn properties() -> Vec<glib::ParamSpec> {
    let defaults = Settings::default();
    let flag = |name: &'static str, nick: &'static str, blurb: &'static str, default: bool| {
        glib::ParamSpecBoolean::builder(name)
            .nick(nick)
            .blurb(blurb)
            .default_value(default)
            .mutable_ready()
            .build()
    };
    let milliseconds = |name: &'static str, nick: &'static str, blurb: &'static str, default: Duration| {
        glib::ParamSpecUInt::builder(name)
            .nick(nick)
            .blurb(blurb)
            .default_value(to_ms(default))
            .mutable_playing()
            .build()
    };
    vec![
        glib::ParamSpecString::builder("target-id")
            .nick("Target id")
            .blurb("Id of the only receiver to send to (null: every receiver)")
            .mutable_ready()
            .build(),
        milliseconds(
            "keyframe-interval-min",
            "Minimum keyframe interval",
            "Shortest time in ms between two keyframes that receivers or the application force from the encoder",
            defaults.runtime.keyframe_interval_min,
        ),
        flag(
            "retransmission",
            "Retransmission",
            "Retransmit lost packets that receivers request (NACK and RTX, RFC 4585 and RFC 4588)",
            defaults.retransmission,
        ),
        glib::ParamSpecUInt::builder("max-receivers")
            .nick("Maximum receivers")
            .blurb("Number of receivers that are served at the same time; others wait, in the order of their arrival (0: no limit)")
            .default_value(defaults.runtime.max_receivers)
            .mutable_playing()
            .build(),
        milliseconds(
            "receiver-timeout",
            "Receiver timeout",
            "Time in ms without RTCP of a receiver, and at least three of its RTCP intervals, after which its session ends",
            defaults.runtime.receiver_timeout,
        ),
        flag(
            "tune-upstream",
            "Tune upstream",
            "Configure a known upstream encoder for low latency (x264enc: tune=zerolatency, ...), leaving properties that the user changed alone",
            defaults.tune_upstream,
        ),
        flag(
            "data-channel",
            "Data channel",
            "Offer every receiver a data channel named room, for the action send-data and the signal data",
            defaults.data_channel,
        ),
        flag(
            "run-signaling-server",
            "Run signaling server",
            "Run a signaling server, with the viewer page, inside this process, and join a room on it",
            defaults.run_signaling_server,
        ),
        glib::ParamSpecString::builder("signaling-server-listen")
            .nick("Signaling server listen address")
            .blurb("Address and port of the signaling server inside (run-signaling-server); port 0 selects a free one")
            .default_value(Some(defaults.signaling_server_listen.as_str()))
            .mutable_ready()
            .build(),
        gst::ParamSpecArray::builder("signaling-server-allow-hosts")
            .nick("Signaling server host names")
            .blurb(
                "Host names under which the signaling server inside serves the viewer page, besides localhost, its \
                 address, and the name of this machine with and without .local: <\"robot.example\", ...>; \"*\" means \
                 any (default: none)",
            )
            .element_spec(
                &glib::ParamSpecString::builder("host").nick("Host name").blurb("name or name:port").build(),
            )
            .mutable_ready()
            .build(),
    ]
}

impl Settings {
    /// Sets one of [`properties`]; false if it is none of them.
    pub(crate) fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        let flag = || value.get::<bool>().unwrap_or_default();
        let number = || value.get::<u32>().unwrap_or_default();
        let text = || value.get::<Option<String>>().ok().flatten().filter(|text| !text.is_empty());
        match name {
            "target-id" => self.target_id = text(),
            "keyframe-interval-min" => {
                self.runtime.keyframe_interval_min = Duration::from_millis(number().into());
            }
            "retransmission" => self.retransmission = flag(),
            "max-receivers" => self.runtime.max_receivers = number(),
            "receiver-timeout" => self.runtime.receiver_timeout = Duration::from_millis(number().into()),
            "tune-upstream" => self.tune_upstream = flag(),
            "data-channel" => self.data_channel = flag(),
            "run-signaling-server" => self.run_signaling_server = flag(),
            "signaling-server-listen" => {
                self.signaling_server_listen =
                    text().unwrap_or_else(|| Self::default().signaling_server_listen);
            }
            "signaling-server-allow-hosts" => {
                self.signaling_server_allow_hosts = value
                    .get::<gst::ArrayRef<'_>>()
                    .map(|list| list.iter().filter_map(|host| host.get::<String>().ok()).collect())
                    .unwrap_or_default();
            }
            _ => return false,
        }
        true
    }

    /// Reads one of [`properties`].
    pub(crate) fn get(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "target-id" => self.target_id.to_value(),
            "keyframe-interval-min" => to_ms(self.runtime.keyframe_interval_min).to_value(),
            "retransmission" => self.retransmission.to_value(),
            "max-receivers" => self.runtime.max_receivers.to_value(),
            "receiver-timeout" => to_ms(self.runtime.receiver_timeout).to_value(),
            "tune-upstream" => self.tune_upstream.to_value(),
            "data-channel" => self.data_channel.to_value(),
            "run-signaling-server" => self.run_signaling_server.to_value(),
            "signaling-server-listen" => self.signaling_server_listen.to_value(),
            "signaling-server-allow-hosts" => gst::Array::new(&self.signaling_server_allow_hosts).to_value(),
            _ => return None,
        })
    }
}

fn to_ms(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
