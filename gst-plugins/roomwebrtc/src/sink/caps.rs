//! The caps of a request pad: the answers to caps queries, and the reasons why a stream cannot be sent.

use crate::codec::{
    Codec, H264, MediaKind,
    access_unit::{Chroma, VideoFormat},
    h264,
};

/// The maximum width and height in answers.
const MAX_SIZE: i32 = 16_384;

/// The caps of the pad template for video.
pub(crate) fn template() -> gst::Caps {
    Codec::sendable(MediaKind::Video)
        .map(|codec| gst::Structure::new_empty(codec.media_type))
        .collect::<gst::Caps>()
}

/// The answer to a caps query on a pad whose codec is `current`, best choice first. Each preferred profile is a structure of
/// its own, because x264enc would choose the last one of a list. These contain only byte-stream, so that encoders do not
/// choose `avc`. The last structure of H.264 accepts the other profiles that browsers decode, and streams without a
/// profile, such as those of IP cameras.
pub(crate) fn accepted(current: Option<&Codec>) -> gst::Caps {
    let mut caps = gst::Caps::new_empty();
    for codec in Codec::sendable(MediaKind::Video).filter(|codec| current.is_none_or(|now| now == *codec)) {
        let mut others = gst::Caps::new_empty_simple(codec.media_type);
        if *codec == H264 {
            others.make_mut().set("profile", gst::List::new(DECODED));
            for profile in ["constrained-baseline", "baseline", "main"] {
                let mut preferred = codec.unit_caps();
                let preferred_caps = preferred.make_mut();
                preferred_caps.set("profile", profile);
                // 4:2:0 requires even sizes. A scaler in front of the encoder selects the nearest one.
                let even = gst::IntRange::with_step(2, MAX_SIZE, 2);
                preferred_caps.set("width", even);
                preferred_caps.set("height", even);
                caps.merge(preferred);
            }
        }
        caps.merge(others);
    }
    caps
}

/// The answer to a caps query with `filter`. If the filter allows nothing that can be sent, the answer accepts it anyway,
/// because the error that follows CAPS names the fix.
pub(crate) fn answer(current: Option<&Codec>, filter: &gst::Caps) -> gst::Caps {
    // This order gives precedence to the sink's preferences over those of the filter.
    let possible = accepted(current).intersect_with_mode(filter, gst::CapsIntersectMode::First);
    if possible.is_empty() {
        template().intersect_with_mode(filter, gst::CapsIntersectMode::First)
    } else {
        possible
    }
}

/// Why a stream cannot be sent. The text names the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnsupportedStream {
    #[error(
        "no browser decodes H.264 of profile {0}: encode 4:2:0 with 8 bits, with `video/x-raw,format=I420` in front of \
         the encoder and `video/x-h264,profile=constrained-baseline` behind it"
    )]
    Profile(String),
    #[error("the pad carries {0} and cannot change to {1}: request another pad")]
    CodecChange(&'static str, &'static str),
    #[error("{0} cannot be sent: use H.264 or VP8")]
    Unknown(String),
    #[error(
        "data arrives without caps, so its codec is unknown: put a parser (h264parse) or a demuxer in front of roomwebrtcsink, \
         or set `caps` on appsrc"
    )]
    NoCaps,
    #[error(
        "{0} arrives without timestamps: put a demuxer in front of roomwebrtcsink, or set format=time on appsrc"
    )]
    NoTime(&'static str),
    #[error(
        "the stream has B-frames, which real-time receivers cannot play: disable them in the encoder \
         (x264enc: tune=zerolatency or bframes=0)"
    )]
    BFrames,
}

impl UnsupportedStream {
    /// Why pictures of this format cannot be sent; `None` if they can.
    pub(crate) fn of_format(codec: &Codec, format: &VideoFormat) -> Option<Self> {
        let is_8_bit_420 =
            format.bit_depth == 8 && matches!(format.chroma, Chroma::Yuv420 | Chroma::Monochrome);
        if *codec != H264 || (is_8_bit_420 && is_decoded(format.profile)) {
            return None;
        }
        let chroma = match format.chroma {
            Chroma::Monochrome => "4:0:0",
            Chroma::Yuv420 => "4:2:0",
            Chroma::Yuv422 => "4:2:2",
            Chroma::Yuv444 => "4:4:4",
        };
        Some(Self::Profile(format!("{} ({chroma}, {} bits)", format.profile, format.bit_depth)))
    }
}

/// The part of the caps that decoders depend on, which excludes frame rate, colorimetry and level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PictureFormat {
    size: (Option<i32>, Option<i32>),
    profile: Option<String>,
    codec_data: Option<Vec<u8>>,
}

impl PictureFormat {
    /// The format in `caps`.
    pub(crate) fn of(caps: &gst::CapsRef) -> Self {
        let structure = caps.structure(0);
        let number = |name: &str| structure.and_then(|structure| structure.get::<i32>(name).ok());
        let record = structure.and_then(|structure| structure.get::<gst::Buffer>("codec_data").ok());
        Self {
            size: (number("width"), number("height")),
            profile: structure.and_then(|structure| structure.get::<String>("profile").ok()),
            codec_data: record.and_then(|record| Some(record.map_readable().ok()?.to_vec())),
        }
    }
}

/// Determines the codec of `caps`, for a pad that carried `current` until now.
pub(crate) fn codec_of(
    caps: &gst::CapsRef,
    current: Option<&'static Codec>,
) -> Result<&'static Codec, UnsupportedStream> {
    let Some(structure) = caps.structure(0) else {
        return Err(UnsupportedStream::Unknown("a stream with empty caps".into()));
    };
    let media_type = structure.name();
    let codec = Codec::of_media_type(media_type)
        .filter(|codec| codec.payloader.is_some())
        .ok_or_else(|| UnsupportedStream::Unknown(media_type.to_string()))?;
    if let Some(old) = current.filter(|old| *old != codec) {
        return Err(UnsupportedStream::CodecChange(old.encoding, codec.encoding));
    }
    if *codec == H264
        && let Ok(profile) = structure.get::<&str>("profile")
        && !is_decoded(profile)
    {
        return Err(UnsupportedStream::Profile(profile.into()));
    }
    if *codec == H264
        && let Ok(record) = structure.get::<gst::Buffer>("codec_data")
        && let Some(refusal) = record
            .map_readable()
            .ok()
            .and_then(|record| h264::format_of_codec_data(&record))
            .and_then(|format| UnsupportedStream::of_format(codec, &format))
    {
        return Err(refusal);
    }
    Ok(codec)
}

/// The profiles that browsers decode. All decode High, whatever profile the SDP names, but no profile for 10 bits, 4:2:2 or
/// 4:4:4.
const DECODED: [&str; 7] =
    ["constrained-baseline", "baseline", "main", "extended", "high", "progressive-high", "constrained-high"];

fn is_decoded(profile: &str) -> bool {
    DECODED.contains(&profile)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::VP8;

    fn caps(text: &str) -> gst::Caps {
        gst::init().unwrap();
        text.parse().unwrap()
    }

    #[test]
    fn constrained_baseline_in_byte_stream_format_is_preferred() {
        gst::init().unwrap();
        let caps = accepted(None);
        let first = caps.structure(0).unwrap();
        assert_eq!(first.get::<&str>("profile"), Ok("constrained-baseline"));
        assert_eq!(first.get::<&str>("stream-format"), Ok("byte-stream"));
        assert!(
            accepted(None).can_intersect(&gst::Caps::new_empty_simple("video/x-h264")),
            "IP cameras name no profile"
        );
        assert!(caps.can_intersect(&"video/x-vp8".parse::<gst::Caps>().unwrap()));
    }

    #[test]
    fn a_profile_that_cannot_be_sent_is_offered_only_if_the_filter_demands_it() {
        let any = answer(None, &caps("video/x-h264"));
        assert!(!any.can_intersect(&caps("video/x-h264,profile=high-4:4:4")), "{any}");
        assert!(any.can_intersect(&caps("video/x-h264,profile=high")), "{any}");
        let demanded = caps("video/x-h264,profile=high-4:4:4");
        assert_eq!(answer(None, &demanded), demanded);
    }

    #[test]
    fn even_sizes_are_preferred_and_other_sizes_are_accepted() {
        gst::init().unwrap();
        let caps = accepted(None);
        let takes = |at: usize, width: i32| {
            let sized = gst::Caps::builder("video/x-h264").field("width", width).build();
            caps.structure(at).unwrap().can_intersect(sized.structure(0).unwrap())
        };
        assert!(takes(0, 640) && takes(0, 1366) && !takes(0, 641));
        assert!(takes(3, 641), "an error then names the fix");
    }

    #[test]
    fn only_fields_that_decoders_depend_on_change_the_format() {
        let format = |text: &str| PictureFormat::of(&caps(&format!("video/x-h264,profile=main,{text}")));
        let first = format("width=320,height=240,framerate=30/1");
        assert_eq!(first, format("width=320,height=240,framerate=25/1,colorimetry=bt709,level=(string)4"));
        for other in
            ["width=322,height=240", "width=320,height=242", "width=320,height=240,codec_data=(buffer)01"]
        {
            assert_ne!(first, format(other), "{other}");
        }
    }

    #[test]
    fn a_pad_keeps_its_codec() {
        let vp8 = caps("video/x-vp8");
        assert_eq!(codec_of(&vp8, None), Ok(&VP8));
        assert_eq!(codec_of(&caps("video/x-vp8,profile=(string)0"), None), Ok(&VP8));
        assert_eq!(codec_of(&vp8, Some(&H264)), Err(UnsupportedStream::CodecChange("H264", "VP8")));
        assert!(!accepted(Some(&H264)).can_intersect(&vp8));
    }

    #[test]
    fn an_error_names_the_codec_that_cannot_be_sent() {
        for other in ["video/x-h265", "audio/x-opus"] {
            assert_eq!(codec_of(&caps(other), None), Err(UnsupportedStream::Unknown(other.into())));
        }
    }

    #[test]
    fn profiles_that_browsers_do_not_decode_are_refused() {
        for good in ["constrained-baseline", "baseline", "main", "high", "constrained-high"] {
            assert_eq!(codec_of(&caps(&format!("video/x-h264,profile={good}")), None), Ok(&H264), "{good}");
        }
        for bad in ["high-4:4:4", "high-4:2:2", "high-10", "high-4:4:4-intra"] {
            let result = codec_of(&caps(&format!("video/x-h264,profile=(string){bad}")), None);
            assert_eq!(result, Err(UnsupportedStream::Profile(bad.into())));
        }
        assert_eq!(codec_of(&caps("video/x-h264"), None), Ok(&H264));
    }

    #[test]
    fn the_format_in_codec_data_is_refused_without_a_profile_in_caps() {
        // A record with one sequence parameter set: profile_idc 110, 4:2:0, 10 bits.
        let record = "016e001fffe1000a676e001fa6cb40a0fc80010004 68ce3c80".replace(' ', "");
        let refused =
            caps(&format!("video/x-h264,stream-format=avc,alignment=au,codec_data=(buffer){record}"));
        let Err(UnsupportedStream::Profile(text)) = codec_of(&refused, None) else {
            panic!("{refused} was accepted")
        };
        assert_eq!(text, "high-10 (4:2:0, 10 bits)");
    }
}
