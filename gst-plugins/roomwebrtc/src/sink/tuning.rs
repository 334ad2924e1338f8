//! Low-latency settings for encoders. To support another encoder, add it to [`TUNINGS`].

use gst::prelude::*;

/// The settings of one encoder. A property is set only if it exists and has its default value.
struct Tuning {
    factory: &'static str,
    values: &'static [(&'static str, &'static str)],
}

/// The settings of all known encoders. A keyframe every 60 frames (2 s at 30/s) only limits the damage of a loss, because
/// each receiver that joins requests a keyframe. The rate control buffer (VBV) of 120 ms limits the size of a keyframe, which
/// is sent in one burst. openh264enc and mpph264enc have no property for this buffer.
const TUNINGS: &[Tuning] = &[
    Tuning {
        factory: "x264enc",
        values: &[
            ("tune", "zerolatency"),
            ("speed-preset", "veryfast"),
            ("key-int-max", "60"),
            ("bframes", "0"),
            ("vbv-buf-capacity", "120"),
        ],
    },
    Tuning {
        factory: "openh264enc",
        values: &[("usage-type", "camera"), ("complexity", "low"), ("gop-size", "60")],
    },
    Tuning {
        factory: "vp8enc",
        values: &[
            ("deadline", "1"),
            ("cpu-used", "8"),
            ("lag-in-frames", "0"),
            ("keyframe-max-dist", "60"),
            ("error-resilient", "default"),
            ("end-usage", "cbr"),
            ("buffer-size", "240"),
            ("buffer-initial-size", "120"),
            ("buffer-optimal-size", "120"),
            // In percent of the bitrate of a frame: 120 ms are four frames at 30/s.
            ("max-intra-bitrate", "400"),
        ],
    },
    Tuning {
        factory: "nvh264enc",
        values: &[
            ("zerolatency", "true"),
            ("preset", "low-latency-hq"),
            ("gop-size", "60"),
            ("bframes", "0"),
            ("rc-mode", "cbr"),
        ],
    },
    Tuning {
        factory: "vah264enc",
        values: &[("b-frames", "0"), ("key-int-max", "60"), ("target-usage", "6"), ("rate-control", "cbr")],
    },
    Tuning {
        factory: "vah264lpenc",
        values: &[("b-frames", "0"), ("key-int-max", "60"), ("rate-control", "cbr")],
    },
    Tuning {
        factory: "vaapih264enc",
        values: &[
            ("max-bframes", "0"),
            ("keyframe-period", "60"),
            ("rate-control", "cbr"),
            ("cpb-length", "120"),
        ],
    },
    Tuning {
        factory: "qsvh264enc",
        values: &[("low-latency", "true"), ("b-frames", "0"), ("gop-size", "60"), ("rate-control", "cbr")],
    },
    Tuning { factory: "mpph264enc", values: &[("gop", "60"), ("rc-mode", "cbr")] },
];

/// The result of [`tune`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TuningOutcome {
    /// These properties were set. Empty if none had its default.
    Set(Vec<String>),
    /// These properties would have to be set, but the encoder is already encoding and would ignore them.
    TooLate(Vec<String>),
    /// [`TUNINGS`] does not contain this encoder.
    Unknown,
}

/// Configures `encoder` for low latency, leaving properties that the user changed alone.
pub(crate) fn tune(encoder: &gst::Element) -> TuningOutcome {
    let factory = encoder.factory().map(|factory| factory.name().to_string()).unwrap_or_default();
    let Some(tuning) = TUNINGS.iter().find(|tuning| tuning.factory == factory) else {
        return TuningOutcome::Unknown;
    };
    let needed = tuning
        .values
        .iter()
        .filter_map(|(name, value)| Some((*name, *value, value_to_set(encoder, name, value)?)));
    let needed: Vec<_> = needed.collect();
    let names = needed.iter().map(|(name, value, _)| format!("{name}={value}")).collect();
    // An encoder applies its properties when it gets caps.
    let is_open = encoder.current_state() > gst::State::Ready
        && encoder.static_pad("src").is_some_and(|pad| pad.current_caps().is_some());
    if is_open && !needed.is_empty() {
        return TuningOutcome::TooLate(names);
    }
    for (name, _, value) in &needed {
        encoder.set_property_from_value(name, value);
    }
    TuningOutcome::Set(names)
}

/// The value to set. `None` if the property does not exist, was changed by the user, or has this value already.
fn value_to_set(encoder: &gst::Element, name: &str, value: &str) -> Option<gst::glib::Value> {
    let spec = encoder.find_property(name)?;
    if !spec.flags().contains(gst::glib::ParamFlags::WRITABLE | gst::glib::ParamFlags::READABLE) {
        return None;
    }
    let text = |value: &gst::glib::Value| value.serialize().ok();
    let wanted = gst::glib::Value::deserialize_with_pspec(value, &spec).ok()?;
    let now = text(&encoder.property_value(name));
    (now == text(spec.default_value()) && text(&wanted) != now).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder(line: &str) -> gst::Element {
        gst::init().unwrap();
        let line = format!("videotestsrc num-buffers=1 ! {line} name=e ! fakesink");
        let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
        let encoder = pipeline.by_name("e").unwrap();
        // The encoder outlives the pipeline.
        pipeline.remove(&encoder).unwrap();
        encoder
    }

    fn text(encoder: &gst::Element, property: &str) -> String {
        encoder.property_value(property).serialize().unwrap().to_string()
    }

    #[test]
    fn a_bare_x264enc_is_set_to_low_latency_with_a_bounded_buffer() {
        let encoder = encoder("x264enc");
        let TuningOutcome::Set(set) = tune(&encoder) else { panic!("not tuned") };
        assert!(set.contains(&"tune=zerolatency".to_string()), "{set:?}");
        assert_eq!(encoder.property::<u32>("key-int-max"), 60);
        assert_eq!(encoder.property::<u32>("vbv-buf-capacity"), 120);
        assert_eq!(text(&encoder, "speed-preset"), "veryfast");
        assert_eq!(tune(&encoder), TuningOutcome::Set(vec![]), "everything is set");
    }

    #[test]
    fn properties_that_the_user_changed_are_kept() {
        let encoder = encoder("x264enc key-int-max=25 speed-preset=ultrafast vbv-buf-capacity=300");
        assert_eq!(tune(&encoder), TuningOutcome::Set(vec!["tune=zerolatency".into()]));
        assert_eq!(encoder.property::<u32>("key-int-max"), 25);
        assert_eq!(encoder.property::<u32>("vbv-buf-capacity"), 300);
        assert_eq!(text(&encoder, "speed-preset"), "ultrafast");
    }

    #[test]
    fn every_setting_for_the_installed_encoders_has_an_effect() {
        for factory in ["x264enc", "vp8enc", "openh264enc"] {
            let encoder = encoder(factory);
            let tuning = TUNINGS.iter().find(|tuning| tuning.factory == factory).unwrap();
            tune(&encoder);
            for (name, value) in tuning.values {
                let spec = encoder.find_property(name).unwrap_or_else(|| panic!("{factory} has no {name}"));
                let wanted = gst::glib::Value::deserialize_with_pspec(value, &spec).unwrap();
                assert_eq!(text(&encoder, name), wanted.serialize().unwrap(), "{factory} {name}");
            }
        }
    }

    #[test]
    fn an_encoder_that_is_already_encoding_is_not_changed() {
        gst::init().unwrap();
        let line = "videotestsrc is-live=true ! x264enc name=e key-int-max=30 ! fakesink name=s";
        let pipeline = gst::parse::launch(line).unwrap().downcast::<gst::Pipeline>().unwrap();
        let encoder = pipeline.by_name("e").unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while encoder.static_pad("src").unwrap().current_caps().is_none() {
            assert!(std::time::Instant::now() < until, "the encoder starts");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let TuningOutcome::TooLate(needed) = tune(&encoder) else { panic!("it was tuned") };
        assert!(needed.contains(&"tune=zerolatency".to_string()), "{needed:?}");
        assert!(!needed.iter().any(|setting| setting.starts_with("key-int-max")), "{needed:?}");
        assert_eq!(encoder.property::<u32>("vbv-buf-capacity"), 600);
        pipeline.set_state(gst::State::Null).unwrap();
    }
}
