//! The source's own properties, beside those of signaling.

use crate::{
    codec::{CODECS, Codec},
    signaling::SignalingSettings,
};
use gst::{glib, prelude::*};
use room_signaling_client::protocol::ClientId;

/// Milliseconds that packets may be late or out of order before they count as lost.
const DEFAULT_LATENCY_MS: u32 = 50;

/// What the user decides.
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

/// The specifications of all properties but those that are read-only here.
pub(super) fn properties() -> Vec<glib::ParamSpec> {
    let mut specs = crate::signaling::properties();
    specs.extend([
        glib::ParamSpecString::builder("sender-id")
            .nick("Sender id")
            .blurb("Receive from this member of the room only (null: from the first sender, when it has left from the next)")
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("latency")
            .nick("Latency")
            .blurb("Time in ms for which packets may be late, out of order or sent again before they count as lost")
            .default_value(DEFAULT_LATENCY_MS)
            .maximum(60_000)
            .mutable_ready()
            .build(),
        gst::ParamSpecArray::builder("codecs")
            .nick("Codecs")
            .blurb("Codecs that are taken: <h264, vp8, opus>; streams of others stay away (default: all of these)")
            .element_spec(&glib::ParamSpecString::builder("codec").nick("Codec").blurb("h264, vp8 or opus").build())
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("retransmission")
            .nick("Retransmission")
            .blurb("Ask the sender for lost packets again (NACK and RTX, RFC 4585 and 4588)")
            .default_value(true)
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("eos-on-bye")
            .nick("EOS on bye")
            .blurb(
                "Send EOS on all pads when the sender says goodbye, as it does at its own EOS, and leave the room \
                 (false: wait for it, or for the next sender, and go on on the same pads)",
            )
            .default_value(false)
            .mutable_playing()
            .build(),
    ]);
    specs
}

impl Settings {
    /// Sets a property; false where it is not one of [`properties`].
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        match name {
            "sender-id" => {
                self.sender_id = value.get::<Option<String>>().ok().flatten().filter(|id| !id.is_empty());
            }
            "latency" => self.latency_ms = value.get().unwrap_or(DEFAULT_LATENCY_MS),
            "codecs" => {
                self.codecs = value
                    .get::<gst::ArrayRef<'_>>()
                    .map(|list| list.iter().filter_map(|codec| codec.get::<String>().ok()).collect())
                    .unwrap_or_default();
            }
            "retransmission" => self.retransmission = value.get().unwrap_or(true),
            "eos-on-bye" => self.eos_on_bye = value.get().unwrap_or(false),
            _ => return self.signaling.set(name, value),
        }
        true
    }

    /// The value of a property; `None` where it is not one of [`properties`].
    pub(super) fn get(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "sender-id" => self.sender_id.to_value(),
            "latency" => self.latency_ms.to_value(),
            "codecs" => gst::Array::new(&self.codecs).to_value(),
            "retransmission" => self.retransmission.to_value(),
            "eos-on-bye" => self.eos_on_bye.to_value(),
            _ => return self.signaling.get(name),
        })
    }

    /// What makes no sense, in words that name the property and what would be right.
    pub(super) fn check(&self) -> Result<(), String> {
        self.wanted_sender()?;
        if let Some(codec) = self.codecs.iter().find(|name| Codec::of_name(name).is_none()) {
            return Err(format!("codecs has {codec:?}: known are {}", known_codecs()));
        }
        if self.codecs.is_empty() {
            return Err(format!(
                "codecs is empty, so nothing could be received: known are {}",
                known_codecs()
            ));
        }
        Ok(())
    }

    /// `sender-id`, checked.
    pub(super) fn wanted_sender(&self) -> Result<Option<ClientId>, String> {
        let check = |id: &String| ClientId::new(id).map_err(|error| format!("sender-id is {id:?}: {error}"));
        self.sender_id.as_ref().map(check).transpose()
    }

    /// `latency` as GStreamer counts.
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
    fn wrong_values_are_named() {
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
