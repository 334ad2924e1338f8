//! What the sink takes and what it promises: caps in, SDP out. Pure functions, no element is touched.

/// What a pad carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    /// H.264, sent as packetization-mode 1 (RFC 6184).
    H264,
    /// VP8 (RFC 7741).
    Vp8,
}

impl Codec {
    /// The name in `a=rtpmap` and in `application/x-rtp` caps.
    pub(crate) fn encoding_name(self) -> &'static str {
        match self {
            Codec::H264 => "H264",
            Codec::Vp8 => "VP8",
        }
    }

    /// The parser and the caps in front of the fan-out: what comes out are whole access units in one format.
    pub(crate) fn parser(self) -> Option<&'static str> {
        match self {
            Codec::H264 => Some("h264parse"),
            Codec::Vp8 => None,
        }
    }

    /// The format that is fanned out. Sizes are left out on purpose: they may change without renegotiation.
    pub(crate) fn unit_caps(self) -> gst::Caps {
        match self {
            Codec::H264 => gst::Caps::builder("video/x-h264")
                .field("stream-format", "byte-stream")
                .field("alignment", "au")
                .build(),
            Codec::Vp8 => gst::Caps::new_empty_simple("video/x-vp8"),
        }
    }

    /// The payloader of a receiver's pipeline.
    pub(crate) fn payloader(self) -> &'static str {
        match self {
            Codec::H264 => "rtph264pay",
            Codec::Vp8 => "rtpvp8pay",
        }
    }

    /// What makes webrtcbin offer this codec before any data has flowed. `ssrc` must be the payloader's own: RTX needs
    /// it. There is no profile-level-id here, the caps of real data would not match it: see [`outgoing_offer`].
    pub(crate) fn codec_preferences(self, payload_type: u32, ssrc: u32) -> gst::Caps {
        let caps = gst::Structure::builder("application/x-rtp")
            .field("media", "video")
            .field("clock-rate", 90_000_i32)
            .field("encoding-name", self.encoding_name())
            .field("payload", i32::try_from(payload_type).unwrap_or(96))
            .field("ssrc", ssrc);
        let caps = match self {
            Codec::H264 => caps.field("packetization-mode", "1"),
            Codec::Vp8 => caps,
        };
        caps.build().into_caps()
    }
}

trait IntoCaps {
    fn into_caps(self) -> gst::Caps;
}

impl IntoCaps for gst::Structure {
    fn into_caps(self) -> gst::Caps {
        let mut caps = gst::Caps::new_empty();
        caps.make_mut().append_structure(self);
        caps
    }
}

/// The caps of the pad template.
pub(crate) fn template_caps() -> gst::Caps {
    [Codec::H264, Codec::Vp8].iter().fold(gst::Caps::new_empty(), |mut caps, codec| {
        let name = match codec {
            Codec::H264 => "video/x-h264",
            Codec::Vp8 => "video/x-vp8",
        };
        caps.merge(gst::Caps::new_empty_simple(name));
        caps
    })
}

/// The answer to a caps query. One structure for each profile, best first: in one list x264enc would pick the last.
/// With byte-stream alone in front, no `avc` is negotiated; the last H.264 structure lets everything else in.
pub(crate) fn accepted_caps(current: Option<Codec>) -> gst::Caps {
    let mut caps = gst::Caps::new_empty();
    if current != Some(Codec::Vp8) {
        for profile in ["constrained-baseline", "baseline", "main"] {
            caps.merge(
                gst::Caps::builder("video/x-h264")
                    .field("stream-format", "byte-stream")
                    .field("alignment", "au")
                    .field("profile", profile)
                    .build(),
            );
        }
        caps.merge(gst::Caps::new_empty_simple("video/x-h264"));
    }
    if current != Some(Codec::H264) {
        caps.merge(gst::Caps::new_empty_simple("video/x-vp8"));
    }
    caps
}

/// Why a stream can't be sent, in words that say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "no browser decodes the H.264 profile {0}: encode 8-bit 4:2:0, for instance with \
         `video/x-raw,format=I420` in front of the encoder"
    )]
    Profile(String),
    #[error("the pad began with {0} and can't go on with {1}: use another pad for it")]
    CodecChange(&'static str, &'static str),
    #[error("{0} can't be sent: give H.264 or VP8")]
    Unknown(String),
    #[error(
        "the stream has B-frames, which real-time receivers can't play: switch them off in the encoder \
         (x264enc: tune=zerolatency or bframes=0)"
    )]
    BFrames,
}

/// Judges the caps of a pad that carried `current` until now.
pub(crate) fn judge(caps: &gst::CapsRef, current: Option<Codec>) -> Result<Codec, Refusal> {
    let Some(structure) = caps.structure(0) else {
        return Err(Refusal::Unknown("nothing".into()));
    };
    let codec = match structure.name().as_str() {
        "video/x-h264" => Codec::H264,
        "video/x-vp8" => Codec::Vp8,
        other => return Err(Refusal::Unknown(other.into())),
    };
    if let Some(old) = current.filter(|old| *old != codec) {
        return Err(Refusal::CodecChange(old.encoding_name(), codec.encoding_name()));
    }
    if codec == Codec::H264
        && let Ok(profile) = structure.get::<&str>("profile")
        && !is_8_bit_420(profile)
    {
        return Err(Refusal::Profile(profile.into()));
    }
    Ok(codec)
}

/// High without its 10-bit, 4:2:2 and 4:4:4 relatives is decoded everywhere, whatever the SDP says.
fn is_8_bit_420(profile: &str) -> bool {
    matches!(
        profile,
        "constrained-baseline"
            | "baseline"
            | "extended"
            | "main"
            | "high"
            | "progressive-high"
            | "constrained-high"
    )
}

/// Notices B-frames: their presentation times go back. Ordinary streams never do.
#[derive(Debug, Default)]
pub(crate) struct ReorderWatch {
    last: Option<gst::ClockTime>,
    seen: u32,
}

impl ReorderWatch {
    /// Looks at the next access unit in decoding order; true once it is beyond doubt.
    pub(crate) fn has_b_frames(&mut self, pts: Option<gst::ClockTime>) -> bool {
        let Some(pts) = pts else { return false };
        if self.last.is_some_and(|last| pts < last) {
            self.seen = self.seen.saturating_add(1);
        }
        self.last = Some(pts);
        self.seen >= 3
    }

    /// After a seek or another jump that is not reordering.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// The offer as it goes out: webrtcbin leaves `profile-level-id` away, without which browsers assume plain Baseline
/// level 1 (RFC 6184, section 8.1). 42e01f is what each of them decodes; asymmetry lets the real level be higher.
pub(crate) fn outgoing_offer(sdp: &str) -> String {
    let mut out = String::with_capacity(sdp.len() + 128);
    for line in sdp.split_inclusive("\r\n") {
        let text = line.trim_end();
        if text.starts_with("a=fmtp:")
            && text.contains("packetization-mode=1")
            && !text.contains("profile-level-id")
        {
            out.push_str(text);
            out.push_str(";profile-level-id=42e01f;level-asymmetry-allowed=1\r\n");
        } else {
            out.push_str(line);
        }
    }
    out
}

/// Whether an answer takes at least one of the offered streams: a refused m-line has port 0 (RFC 3264, section 6).
pub(crate) fn takes_media(answer: &gst_sdp::SDPMessageRef) -> bool {
    answer.medias().any(|media| media.media() == Some("video") && media.port() != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(text: &str) -> gst::Caps {
        gst::init().unwrap();
        text.parse().unwrap()
    }

    #[test]
    fn constrained_baseline_byte_stream_is_asked_for_first() {
        gst::init().unwrap();
        let caps = accepted_caps(None);
        let first = caps.structure(0).unwrap();
        assert_eq!(first.get::<&str>("profile"), Ok("constrained-baseline"));
        assert_eq!(first.get::<&str>("stream-format"), Ok("byte-stream"));
        assert!(caps.structure(3).unwrap().get::<&str>("profile").is_err(), "IP cameras name no profile");
        assert!(caps.can_intersect(&"video/x-vp8".parse::<gst::Caps>().unwrap()));
    }

    #[test]
    fn a_pad_keeps_its_codec() {
        let vp8 = caps("video/x-vp8");
        assert_eq!(judge(&vp8, None), Ok(Codec::Vp8));
        assert_eq!(judge(&caps("video/x-vp8,profile=(string)0"), None), Ok(Codec::Vp8));
        assert_eq!(judge(&vp8, Some(Codec::H264)), Err(Refusal::CodecChange("H264", "VP8")));
        assert!(!accepted_caps(Some(Codec::H264)).can_intersect(&vp8));
    }

    #[test]
    fn profiles_that_browsers_do_not_decode_are_refused() {
        for good in ["constrained-baseline", "baseline", "main", "high", "constrained-high"] {
            assert_eq!(
                judge(&caps(&format!("video/x-h264,profile={good}")), None),
                Ok(Codec::H264),
                "{good}"
            );
        }
        for bad in ["high-4:4:4", "high-4:2:2", "high-10", "high-4:4:4-intra"] {
            let verdict = judge(&caps(&format!("video/x-h264,profile=(string){bad}")), None);
            assert_eq!(verdict, Err(Refusal::Profile(bad.into())));
        }
        assert_eq!(judge(&caps("video/x-h264"), None), Ok(Codec::H264));
    }

    #[test]
    fn b_frames_show_in_times_that_go_back() {
        let ms = |n| Some(gst::ClockTime::from_mseconds(n));
        let mut straight = ReorderWatch::default();
        assert!(![0, 33, 66, 99, 132].into_iter().any(|n| straight.has_b_frames(ms(n))));
        let mut reordered = ReorderWatch::default();
        assert!([0, 99, 33, 66, 198, 132, 165, 297, 231].into_iter().any(|n| reordered.has_b_frames(ms(n))));
    }

    #[test]
    fn the_offer_names_a_profile_that_everyone_takes() {
        let sdp = "v=0\r\na=fmtp:96 packetization-mode=1\r\na=fmtp:97 apt=96\r\n";
        assert_eq!(
            outgoing_offer(sdp),
            "v=0\r\na=fmtp:96 packetization-mode=1;profile-level-id=42e01f;level-asymmetry-allowed=1\r\n\
             a=fmtp:97 apt=96\r\n"
        );
        assert_eq!(outgoing_offer(&outgoing_offer(sdp)), outgoing_offer(sdp));
    }
}
