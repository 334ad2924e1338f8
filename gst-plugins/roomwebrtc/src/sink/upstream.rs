//! Where a stream comes from: an encoder that nobody tuned, which is set to what makes it live, or a depayloader.

use gst::prelude::*;

/// What makes one encoder live. A value is set only where the property exists and the user left its default.
struct Tuning {
    factory: &'static str,
    values: &'static [(&'static str, &'static str)],
}

/// Two seconds of frames at 30/s: late joiners ask for a keyframe of their own, this one only bounds the damage.
const TUNINGS: &[Tuning] = &[
    Tuning {
        factory: "x264enc",
        values: &[
            ("tune", "zerolatency"),
            ("speed-preset", "veryfast"),
            ("key-int-max", "60"),
            ("bframes", "0"),
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
        ],
    },
    Tuning {
        factory: "nvh264enc",
        values: &[
            ("zerolatency", "true"),
            ("preset", "low-latency-hq"),
            ("gop-size", "60"),
            ("bframes", "0"),
        ],
    },
    Tuning {
        factory: "vah264enc",
        values: &[("b-frames", "0"), ("key-int-max", "60"), ("target-usage", "6")],
    },
    Tuning { factory: "vah264lpenc", values: &[("b-frames", "0"), ("key-int-max", "60")] },
    Tuning { factory: "vaapih264enc", values: &[("max-bframes", "0"), ("keyframe-period", "60")] },
    Tuning {
        factory: "qsvh264enc",
        values: &[("low-latency", "true"), ("b-frames", "0"), ("gop-size", "60")],
    },
    Tuning { factory: "mpph264enc", values: &[("gop", "60")] },
];

/// Where a stream comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A video encoder in this pipeline.
    Encoder(gst::Element),
    /// RTP from elsewhere.
    Depayloader(gst::Element),
}

/// What feeds `pad`, seen through parsers, queues, capsfilters and bins.
pub(crate) fn origin(pad: &gst::Pad) -> Option<Origin> {
    let mut source = feeding_pad(pad)?;
    // Bounded, so that an odd graph can't keep us here.
    for _ in 0..32 {
        let element = source.parent_element()?;
        let class = element.metadata(gst::ELEMENT_METADATA_KLASS).unwrap_or_default();
        if class.contains("Encoder") && class.contains("Video") {
            return Some(Origin::Encoder(element));
        }
        if class.contains("Depayloader") {
            return Some(Origin::Depayloader(element));
        }
        if ["Source", "Decoder", "Demuxer"].iter().any(|word| class.contains(word)) {
            return None;
        }
        let sink = source.iterate_internal_links().into_iter().flatten().next()?;
        source = feeding_pad(&sink)?;
    }
    None
}

/// The source pad of a real element behind whatever ghost pads stand between it and `sink`.
fn feeding_pad(sink: &gst::Pad) -> Option<gst::Pad> {
    let mut peer = sink.peer()?;
    for _ in 0..16 {
        if let Some(ghost) = peer.downcast_ref::<gst::GhostPad>() {
            peer = ghost.target()?;
        } else if let Some(ghost) = peer.parent().and_downcast::<gst::GhostPad>() {
            // The inner side of a bin's sink pad: go on outside.
            peer = ghost.peer()?;
        } else {
            return Some(peer);
        }
    }
    None
}

/// What became of an encoder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tuned {
    /// These properties were set; empty where the user had set them all.
    Set(Vec<String>),
    /// Nothing is known of this kind of encoder.
    Unknown,
    /// It runs already: its properties can't be changed any more.
    Running,
}

/// Sets what makes `encoder` live, leaving alone whatever the user has set.
pub(crate) fn tune(encoder: &gst::Element) -> Tuned {
    let factory = encoder.factory().map(|f| f.name().to_string()).unwrap_or_default();
    let Some(tuning) = TUNINGS.iter().find(|t| t.factory == factory) else { return Tuned::Unknown };
    if encoder.current_state() > gst::State::Ready {
        return Tuned::Running;
    }
    let set = tuning.values.iter().filter(|(name, value)| set_if_default(encoder, name, value));
    Tuned::Set(set.map(|(name, value)| format!("{name}={value}")).collect())
}

fn set_if_default(encoder: &gst::Element, name: &str, value: &str) -> bool {
    let Some(spec) = encoder.find_property(name) else { return false };
    if !spec.flags().contains(gst::glib::ParamFlags::WRITABLE | gst::glib::ParamFlags::READABLE) {
        return false;
    }
    let is = |value: &gst::glib::Value| value.serialize().ok();
    let wanted = gst::glib::Value::deserialize_with_pspec(value, &spec).ok();
    let now = is(&encoder.property_value(name));
    if now != is(spec.default_value()) || wanted.as_ref().and_then(is) == now {
        return false;
    }
    match wanted {
        Some(wanted) => {
            encoder.set_property_from_value(name, &wanted);
            true
        }
        None => false,
    }
}

/// Latency beyond which a stream upstream is said to be no longer live.
pub(crate) const TOO_LATE: gst::ClockTime = gst::ClockTime::from_mseconds(200);

/// What upstream says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// Live input is not paced: it comes at its own pace.
    pub(crate) live: bool,
    /// How late the data comes.
    pub(crate) latency: gst::ClockTime,
}

/// Asks the peer of `pad`; without an answer the input counts as not live.
pub(crate) fn timing(pad: &gst::Pad) -> Timing {
    let mut query = gst::query::Latency::new();
    if pad.peer_query(&mut query) {
        let (live, latency, _) = query.result();
        Timing { live, latency }
    } else {
        Timing { live: false, latency: gst::ClockTime::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuned(line: &str) -> (gst::Element, Option<Tuned>) {
        gst::init().unwrap();
        let bin = gst::parse::bin_from_description(&format!("{line} ! fakesink name=end"), false).unwrap();
        let pad = bin.by_name("end").unwrap().static_pad("sink").unwrap();
        match origin(&pad) {
            Some(Origin::Encoder(encoder)) => (encoder.clone(), Some(tune(&encoder))),
            _ => (bin.upcast(), None),
        }
    }

    #[test]
    fn a_bare_x264enc_becomes_live() {
        let (encoder, result) = tuned("videotestsrc ! x264enc");
        let Some(Tuned::Set(set)) = result else { panic!("not tuned: {result:?}") };
        assert!(set.contains(&"tune=zerolatency".to_string()), "{set:?}");
        assert_eq!(encoder.property::<u32>("key-int-max"), 60);
        assert_eq!(encoder.property_value("speed-preset").serialize().unwrap(), "veryfast");
    }

    #[test]
    fn it_is_found_behind_parsers_queues_and_bins() {
        for line in [
            "videotestsrc ! x264enc ! h264parse ! queue ! capsfilter",
            "videotestsrc ! ( x264enc ! queue ) ! identity",
            "videotestsrc ! x264enc ! ( queue ! h264parse )",
        ] {
            assert!(matches!(tuned(line).1, Some(Tuned::Set(_))), "{line}");
        }
    }

    #[test]
    fn what_the_user_set_stays() {
        let (encoder, result) = tuned("videotestsrc ! x264enc key-int-max=25 speed-preset=ultrafast");
        assert_eq!(result, Some(Tuned::Set(vec!["tune=zerolatency".into()])));
        assert_eq!(encoder.property::<u32>("key-int-max"), 25);
        assert_eq!(encoder.property_value("speed-preset").serialize().unwrap(), "ultrafast");
    }

    #[test]
    fn no_encoder_is_looked_for_behind_a_depayloader() {
        gst::init().unwrap();
        let line = "udpsrc ! rtph264depay ! h264parse ! fakesink name=end";
        let bin = gst::parse::bin_from_description(line, false).unwrap();
        let pad = bin.by_name("end").unwrap().static_pad("sink").unwrap();
        let Some(Origin::Depayloader(found)) = origin(&pad) else { panic!("{:?}", origin(&pad)) };
        assert_eq!(found.factory().unwrap().name(), "rtph264depay");
    }
}
