//! What both elements know about codecs: one table, and the bitstream syntax that decides where decoding can start.
//!
//! The table maps a codec to its names, caps, and GStreamer elements. Reading a bitstream needs no GStreamer: the
//! modules below take bytes and return values.

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
    /// The caps of whole access units. They name no size, because a size may change without renegotiation.
    pub(crate) unit_caps: &'static str,
    /// From any caps of `media_type` to `unit_caps`: the parser's factory, where one is needed.
    pub(crate) parser: Option<&'static str>,
    /// From `unit_caps` to RTP: the payloader's factory and its properties. `None`: this codec can only be received.
    pub(crate) payloader: Option<Payloader>,
    /// From RTP to `unit_caps`, in the syntax of gst-launch. The depayloader is named `depay`.
    pub(crate) depayloader: &'static str,
    /// Format parameters that the RTP caps have in common with `a=fmtp`.
    pub(crate) format_parameters: &'static [(&'static str, &'static str)],
    /// Format parameters of an offer that the RTP caps must not have, because the payloader's own values differ.
    pub(crate) offered_parameters: &'static str,
    /// Lost packets are worth a NACK and a retransmission (RFC 4585, RFC 4588).
    pub(crate) retransmission: bool,
}

/// How a codec becomes RTP.
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
        // A test parses the caps of every codec.
        self.unit_caps.parse().unwrap_or_else(|_| gst::Caps::new_any())
    }

    /// Makes webrtcbin offer this codec before any data has flowed. `ssrc` must equal the payloader's, because
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
    fn every_entry_of_the_table_is_something_that_gstreamer_knows() {
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
}
