//! The SDP that the sink sends and reads.

use crate::codec::H264;

/// Completes webrtcbin's offer, which lacks the `profile-level-id` of H.264.
pub(crate) fn outgoing_offer(sdp: &str) -> String {
    let mut out = String::with_capacity(sdp.len() + 128);
    for line in sdp.split_inclusive("\r\n") {
        let text = line.trim_end();
        if text.starts_with("a=fmtp:")
            && text.contains("packetization-mode=1")
            && !text.contains("profile-level-id")
        {
            out.push_str(text);
            out.push(';');
            out.push_str(H264.offered_parameters);
            out.push_str("\r\n");
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
