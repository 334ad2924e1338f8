//! The codecs of both elements. To add a codec, add it to [`CODECS`], and a module that parses its access units.
//!
//! The table has the names, caps, and GStreamer elements of each codec. The parsers use no GStreamer: they take bytes and
//! return values.

pub(crate) mod access_unit;
pub(crate) mod h264;
mod vp8;

use access_unit::{AccessUnit, AccessUnitKind, VideoFormat};

/// Whether a stream is video or audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum MediaKind {
    /// `m=video` in SDP.
    Video,
    /// `m=audio` in SDP.
    Audio,
}

impl MediaKind {
    /// The name in SDP and in `application/x-rtp` caps.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            MediaKind::Video => "video",
            MediaKind::Audio => "audio",
        }
    }
}

/// A codec that can be sent or received.
#[derive(Debug)]
pub(crate) struct Codec {
    /// The name in properties, such as `codecs` of roomwebrtcsrc.
    pub(crate) name: &'static str,
    pub(crate) kind: MediaKind,
    /// The name in `a=rtpmap` and in `application/x-rtp` caps.
    pub(crate) encoding: &'static str,
    /// The RTP clock in Hz.
    pub(crate) clock_rate: i32,
    /// The media type of its caps.
    pub(crate) media_type: &'static str,
    /// The caps of whole access units. They contain no size, because a size may change without renegotiation.
    pub(crate) unit_caps: &'static str,
    /// The factory of the parser that converts any caps of `media_type` to `unit_caps`, if one is needed.
    pub(crate) parser: Option<&'static str>,
    /// The payloader for `unit_caps`. `None` if the codec can only be received.
    pub(crate) payloader: Option<Payloader>,
    /// The elements from RTP to `unit_caps`, in the syntax of gst-launch. The depayloader is named `depay`.
    pub(crate) depayloader: &'static str,
    /// Format parameters that the RTP caps have in common with `a=fmtp`.
    pub(crate) format_parameters: &'static [(&'static str, &'static str)],
    /// Format parameters of an offer that the RTP caps must not have, because the payloader's own values differ.
    pub(crate) offered_parameters: &'static str,
    /// Whether lost packets are retransmitted (RFC 4585, RFC 4588).
    pub(crate) retransmission: bool,
    /// The parser of its access units.
    pub(crate) syntax: Syntax,
}

/// Parses access units in the format of [`Codec::unit_caps`].
#[derive(Debug)]
pub(crate) struct Syntax {
    /// Parses one access unit.
    pub(crate) access_unit: for<'a> fn(&'a [u8]) -> AccessUnit<'a>,
    /// The format of the pictures, if this unit describes it.
    pub(crate) format: for<'a> fn(&AccessUnit<'a>, &'a [u8]) -> Option<VideoFormat>,
}

/// The payloader of a codec.
#[derive(Debug)]
pub(crate) struct Payloader {
    pub(crate) factory: &'static str,
    pub(crate) properties: &'static [(&'static str, &'static str)],
}

/// H.264 (RFC 6184).
pub(crate) static H264: Codec = Codec {
    name: "h264",
    kind: MediaKind::Video,
    encoding: "H264",
    clock_rate: 90_000,
    media_type: "video/x-h264",
    unit_caps: "video/x-h264,stream-format=(string)byte-stream,alignment=(string)au",
    parser: Some("h264parse"),
    payloader: Some(Payloader {
        factory: "rtph264pay",
        properties: &[
            // The parser inserts parameter sets before each IDR picture. With an interval, the payloader would repeat
            // them before each slice, which splits the picture of an encoder that makes several slices.
            ("config-interval", "0"),
            ("aggregate-mode", "zero-latency"),
        ],
    }),
    depayloader: "rtph264depay name=depay ! video/x-h264,stream-format=byte-stream,alignment=au ! h264parse",
    format_parameters: &[("packetization-mode", "1")],
    // Without a profile-level-id, receivers assume Baseline at level 1 (RFC 6184, section 8.1). Every browser decodes
    // 42e01f, and asymmetry permits a higher level in the direction of sending.
    offered_parameters: "profile-level-id=42e01f;level-asymmetry-allowed=1",
    retransmission: true,
    syntax: Syntax { access_unit: h264::access_unit, format: |unit, _| h264::format(unit) },
};

/// VP8 (RFC 7741).
pub(crate) static VP8: Codec = Codec {
    name: "vp8",
    kind: MediaKind::Video,
    encoding: "VP8",
    clock_rate: 90_000,
    media_type: "video/x-vp8",
    unit_caps: "video/x-vp8",
    parser: None,
    payloader: Some(Payloader { factory: "rtpvp8pay", properties: &[("picture-id-mode", "15-bit")] }),
    depayloader: "rtpvp8depay name=depay",
    format_parameters: &[],
    offered_parameters: "",
    retransmission: true,
    syntax: Syntax { access_unit: vp8::access_unit, format: |_, frame| vp8::format(frame) },
};

/// Opus (RFC 7587).
pub(crate) static OPUS: Codec = Codec {
    name: "opus",
    kind: MediaKind::Audio,
    encoding: "OPUS",
    clock_rate: 48_000,
    media_type: "audio/x-opus",
    unit_caps: "audio/x-opus",
    parser: None,
    payloader: None,
    depayloader: "rtpopusdepay name=depay",
    format_parameters: &[],
    offered_parameters: "",
    retransmission: false,
    syntax: Syntax { access_unit: |_| AccessUnit::new(AccessUnitKind::Idr), format: |_, _| None },
};

/// All codecs, in the order of the documentation.
pub(crate) static CODECS: [&Codec; 3] = [&H264, &VP8, &OPUS];

impl PartialEq for Codec {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Codec {}

impl Codec {
    /// The codec with this name in properties.
    pub(crate) fn of_name(name: &str) -> Option<&'static Codec> {
        CODECS.into_iter().find(|codec| codec.name.eq_ignore_ascii_case(name))
    }

    /// The codec with this name in SDP and RTP caps.
    pub(crate) fn of_encoding(encoding: &str) -> Option<&'static Codec> {
        CODECS.into_iter().find(|codec| codec.encoding.eq_ignore_ascii_case(encoding))
    }

    /// The codec whose caps have this media type.
    pub(crate) fn of_media_type(media_type: &str) -> Option<&'static Codec> {
        CODECS.into_iter().find(|codec| codec.media_type == media_type)
    }

    /// The codecs of this kind that can be sent.
    pub(crate) fn sendable(kind: MediaKind) -> impl Iterator<Item = &'static Codec> {
        CODECS.into_iter().filter(move |codec| codec.kind == kind && codec.payloader.is_some())
    }

    /// The caps of whole access units.
    pub(crate) fn unit_caps(&self) -> gst::Caps {
        // A test covers the caps of every codec.
        self.unit_caps.parse().unwrap_or_else(|_| gst::Caps::new_any())
    }

    /// The caps with which webrtcbin offers this codec before data flows. `ssrc` must equal the payloader's, because
    /// webrtcbin needs it to set up RTX.
    pub(crate) fn preferences(&self, payload_type: u8, ssrc: u32) -> gst::Caps {
        let mut caps = gst::Structure::builder("application/x-rtp")
            .field("media", self.kind.as_str())
            .field("clock-rate", self.clock_rate)
            .field("encoding-name", self.encoding)
            .field("payload", i32::from(payload_type))
            .field("ssrc", ssrc);
        for (name, value) in self.format_parameters {
            caps = caps.field(*name, *value);
        }
        gst::Caps::builder_full().structure(caps.build()).build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gst::prelude::*;

    #[test]
    fn every_codec_is_found_by_each_of_its_names() {
        for codec in CODECS {
            assert_eq!(Codec::of_name(&codec.name.to_uppercase()), Some(codec));
            assert_eq!(Codec::of_encoding(&codec.encoding.to_lowercase()), Some(codec));
            assert_eq!(Codec::of_media_type(codec.media_type), Some(codec));
        }
        assert_eq!(Codec::of_name("theora"), None);
    }

    #[test]
    fn gstreamer_has_every_element_and_parses_all_caps_of_the_table() {
        gst::init().expect("GStreamer");
        for codec in CODECS {
            let caps = codec.unit_caps();
            assert!(!caps.is_any(), "{}", codec.unit_caps);
            assert_eq!(caps.structure(0).expect("one structure").name(), codec.media_type);
            let chain = gst::parse::bin_from_description(codec.depayloader, true).expect(codec.depayloader);
            assert!(chain.by_name("depay").is_some(), "{}", codec.depayloader);
            if let Some(payloader) = &codec.payloader {
                let element = gst::ElementFactory::make(payloader.factory).build().expect(payloader.factory);
                for (name, value) in payloader.properties {
                    element.set_property_from_str(name, value);
                }
            }
            if let Some(parser) = codec.parser {
                gst::ElementFactory::make(parser).build().expect(parser);
            }
        }
    }

    #[test]
    fn the_preferences_of_h264_name_the_packetization_mode_and_no_profile() {
        gst::init().expect("GStreamer");
        let caps = H264.preferences(100, 7);
        let caps = caps.structure(0).expect("one structure");
        assert_eq!(caps.get::<&str>("packetization-mode"), Ok("1"));
        assert_eq!((caps.get::<i32>("payload"), caps.get::<u32>("ssrc")), (Ok(100), Ok(7)));
        assert!(!caps.has_field("profile-level-id"), "the payloader's caps name the profile of the stream");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reading_of_a_unit_panic(bytes: Vec<u8>, start in 0_usize..8) {
            // Random bytes rarely form a unit, so some inputs begin with a valid start.
            let starts: [&[u8]; 8] = [
                &[], &[0, 0, 1, 0x67], &[0, 0, 1, 0x67, 100, 0, 31], &[0, 0, 1, 0x06], &[0, 0, 1, 0x41],
                &[0, 0, 1, 0x68], &[0x50, 0, 0, 0x9d, 0x01, 0x2a], &[1, 66, 0, 13, 0xff, 0xe1, 0, 20],
            ];
            let bytes = [starts.get(start).copied().unwrap_or_default(), &bytes].concat();
            for codec in CODECS {
                let unit = (codec.syntax.access_unit)(&bytes);
                proptest::prop_assert!(unit.insert_at <= bytes.len());
                let _ = (codec.syntax.format)(&unit, &bytes);
                let mut sets = h264::ParameterSets::default();
                sets.remember(&unit);
                let _ = sets.byte_stream();
            }
            let _ = h264::format_of_codec_data(&bytes);
            for length in 0..=4 {
                let _ = h264::begins_picture(h264::nal::with_lengths(&bytes, length));
            }
        }
    }

    /// The access units of real encoders.
    fn encoded(encoder: &str, codec: &Codec) -> Vec<(AccessUnitKind, bool, Option<VideoFormat>)> {
        gst::init().expect("GStreamer");
        let parser = codec.parser.map(|parser| format!("! {parser} ")).unwrap_or_default();
        let line = format!(
            "videotestsrc num-buffers=12 ! video/x-raw,width=322,height=242,framerate=30/1 ! {encoder} {parser}! \
             appsink name=sink sync=false caps={}",
            codec.unit_caps
        );
        let pipeline =
            gst::parse::launch(&line).expect(&line).downcast::<gst::Pipeline>().expect("a pipeline");
        let sink = pipeline.by_name("sink").and_downcast::<gst_app::AppSink>().expect("a sink");
        pipeline.set_state(gst::State::Playing).expect("playing");
        let units = std::iter::from_fn(|| sink.pull_sample().ok())
            .map(|sample| {
                let map = sample.buffer().expect("a buffer").map_readable().expect("memory");
                let unit = (codec.syntax.access_unit)(&map);
                (unit.kind, unit.bidirectional, (codec.syntax.format)(&unit, &map))
            })
            .collect();
        pipeline.set_state(gst::State::Null).expect("null");
        units
    }

    fn kinds(units: &[(AccessUnitKind, bool, Option<VideoFormat>)]) -> Vec<AccessUnitKind> {
        units.iter().map(|unit| unit.0).collect()
    }

    #[test]
    fn the_streams_of_real_encoders_are_parsed_correctly() {
        use AccessUnitKind::{Delta, Idr, Intra, RecoveryPoint};
        let every_fourth = [[Idr, Delta, Delta, Delta]; 3].concat();
        for (encoder, codec, profile) in [
            (
                "x264enc tune=zerolatency key-int-max=4 ! video/x-h264,profile=constrained-baseline",
                &H264,
                "constrained-baseline",
            ),
            ("x264enc tune=zerolatency key-int-max=4 ! video/x-h264,profile=high", &H264, "high"),
            ("openh264enc gop-size=4", &H264, "constrained-baseline"),
            ("vp8enc deadline=1 keyframe-max-dist=4", &VP8, "0"),
        ] {
            let units = encoded(encoder, codec);
            assert_eq!(kinds(&units), every_fourth, "{encoder}");
            assert!(units.iter().all(|unit| !unit.1), "{encoder}");
            let format = units.first().and_then(|unit| unit.2.clone()).expect(encoder);
            assert_eq!((format.width, format.height, format.profile), (322, 242, profile), "{encoder}");
            assert_eq!(
                (format.chroma, format.bit_depth, format.interlaced),
                (access_unit::Chroma::Yuv420, 8, false)
            );
        }

        let units = encoded("x264enc tune=zerolatency intra-refresh=true key-int-max=4", &H264);
        let kinds_of_refresh = kinds(&units);
        assert_eq!(kinds_of_refresh.first(), Some(&Idr));
        assert!(
            kinds_of_refresh.iter().skip(1).all(|kind| [Delta, RecoveryPoint].contains(kind)),
            "{kinds_of_refresh:?}"
        );
        assert!(kinds_of_refresh.contains(&RecoveryPoint), "{kinds_of_refresh:?}");

        let units = encoded("x264enc key-int-max=4 option-string=open-gop=1 bframes=1 b-adapt=false", &H264);
        let kinds_of_open_gop = kinds(&units);
        assert!(
            kinds_of_open_gop.iter().any(|kind| [Intra, RecoveryPoint].contains(kind)),
            "{kinds_of_open_gop:?}"
        );
        assert!(units.iter().any(|unit| unit.1), "B slices");
    }

    #[test]
    fn formats_that_browsers_do_not_decode_are_read_from_the_bitstream() {
        use access_unit::Chroma;
        for (raw, chroma, bit_depth) in
            [("Y444", Chroma::Yuv444, 8), ("Y42B", Chroma::Yuv422, 8), ("I420_10LE", Chroma::Yuv420, 10)]
        {
            let units = encoded(
                &format!("videoconvert ! video/x-raw,format={raw} ! x264enc tune=zerolatency"),
                &H264,
            );
            let format = units.first().and_then(|unit| unit.2.clone()).expect(raw);
            assert_eq!((format.chroma, format.bit_depth), (chroma, bit_depth), "{raw}");
            assert_eq!((format.width, format.height), (322, 242), "{raw}");
        }
        let interlaced = "videoscale ! video/x-raw,width=320,height=240 ! interlace field-pattern=1:1 ! \
                          x264enc tune=zerolatency ! video/x-h264,profile=high";
        let units = encoded(interlaced, &H264);
        let format = units.first().and_then(|unit| unit.2.clone()).expect("a format");
        assert!(format.interlaced, "{format:?}");
        assert_eq!((format.width, format.height), (320, 240), "cropped in units of two lines for each field");
    }
}
