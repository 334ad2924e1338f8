//! The DTLS certificate of this process: ECDSA on P-256, which every WebRTC peer accepts.
//!
//! webrtcbin makes an RSA certificate of its own, with which peers that offer ECDSA suites only (aiortc) can't finish
//! the handshake. So each `dtlsdec` inside a webrtcbin gets ours, and since webrtcbin still writes the fingerprint of
//! its own certificate (RFC 8122), every outgoing description has to pass through [`with_fingerprint`].

use gst::prelude::*;
use sha2::{Digest, Sha256};
use std::{
    sync::{LazyLock, Mutex, Once, PoisonError},
    thread::JoinHandle,
};

struct Certificate {
    /// Certificate and private key, as `dtlsdec` takes them.
    pem: String,
    /// SHA-256 of the certificate, upper-case hexadecimal with colons.
    fingerprint: String,
}

/// Made when first asked for. `None` where no key could be made: webrtcbin's own certificate stays in use then.
static CERTIFICATE: LazyLock<Option<Certificate>> = LazyLock::new(|| match generate() {
    Ok(certificate) => Some(certificate),
    Err(error) => {
        gst::warning!(crate::log::CAT, "using webrtcbin's RSA certificate, making one failed: {error}");
        None
    }
});

/// Gives every DTLS transport of `webrtcbin` the certificate of this process. Call it before the first pad or
/// description.
pub(crate) fn install(webrtcbin: &gst::Element) {
    let (Some(certificate), Some(bin)) = (CERTIFICATE.as_ref(), webrtcbin.downcast_ref::<gst::Bin>()) else {
        return;
    };
    bin.connect_deep_element_added(|_, _, element| {
        if element.factory().is_some_and(|factory| factory.name() == "dtlsdec") {
            element.set_property("pem", &certificate.pem);
        }
    });
}

/// `sdp` with each `a=fingerprint` line saying the certificate of [`install`].
pub(crate) fn with_fingerprint(sdp: &str) -> String {
    match CERTIFICATE.as_ref() {
        Some(certificate) => replace_fingerprints(sdp, &certificate.fingerprint),
        None => sdp.to_owned(),
    }
}

static WARM_UP: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);

/// Spends the one-time costs on a thread of its own, once in a process: the certificate, and the RSA key that the
/// first DTLS element makes whether it is used or not (a quarter of a second).
pub(crate) fn warm_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let spawned = std::thread::Builder::new().name("room-warm-up".into()).spawn(|| {
            LazyLock::force(&CERTIFICATE);
            drop(gst::ElementFactory::make("dtlsdec").build());
        });
        match spawned {
            Ok(thread) => *WARM_UP.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread),
            Err(error) => gst::debug!(crate::log::CAT, "no thread to warm up DTLS: {error}"),
        }
    });
}

/// Waits for [`warm_up`] to be over: a process must not end while OpenSSL is making a key.
pub(crate) fn wait_for_warm_up() {
    let thread = WARM_UP.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(thread) = thread {
        let _ = thread.join();
    }
}

fn generate() -> Result<Certificate, rcgen::Error> {
    // rcgen's default algorithm is ECDSA P-256 with SHA-256, its default validity ends in the year 4096: peers pin the
    // fingerprint and don't look at dates, and a process may run for years.
    let made = rcgen::generate_simple_self_signed(vec!["roomwebrtc".to_owned()])?;
    let fingerprint = Sha256::digest(made.cert.der())
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect::<Vec<_>>()
        .join(":");
    Ok(Certificate { pem: made.cert.pem() + &made.signing_key.serialize_pem(), fingerprint })
}

fn replace_fingerprints(sdp: &str, fingerprint: &str) -> String {
    sdp.split_inclusive('\n')
        .map(|line| match line.strip_prefix("a=fingerprint:") {
            Some(rest) => format!("a=fingerprint:sha-256 {fingerprint}{}", line_end(rest)),
            None => line.to_owned(),
        })
        .collect()
}

fn line_end(line: &str) -> &str {
    &line[line.trim_end_matches(['\r', '\n']).len()..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fingerprint_line_is_replaced_and_nothing_else() {
        let sdp = "v=0\r\na=fingerprint:sha-256 AA:BB\r\nm=video 9\r\na=fingerprint:sha-1 CC\r\na=mid:0\r\n";
        assert_eq!(
            replace_fingerprints(sdp, "11:22"),
            "v=0\r\na=fingerprint:sha-256 11:22\r\nm=video 9\r\na=fingerprint:sha-256 11:22\r\na=mid:0\r\n"
        );
        assert_eq!(replace_fingerprints("a=fingerprint:sha-256 AA", "11"), "a=fingerprint:sha-256 11");
    }

    #[test]
    fn the_certificate_is_a_p256_one_with_32_bytes_of_fingerprint() {
        let made = generate().expect("a certificate");
        assert_eq!(made.fingerprint.split(':').count(), 32);
        assert!(made.pem.contains("BEGIN CERTIFICATE") && made.pem.contains("BEGIN PRIVATE KEY"));
        // A P-256 key with its public part is 138 bytes of PKCS#8: far less than any RSA key.
        assert!(made.pem.len() < 1500, "{} bytes of PEM", made.pem.len());
    }

    #[test]
    fn a_dtls_element_inside_webrtcbin_gets_it() {
        gst::init().expect("GStreamer");
        let webrtcbin = gst::ElementFactory::make("webrtcbin").build().expect("webrtcbin");
        install(&webrtcbin);
        let dtls = gst::ElementFactory::make("dtlsdec").build().expect("dtlsdec");
        webrtcbin.downcast_ref::<gst::Bin>().expect("a bin").add(&dtls).expect("added");
        let ours = CERTIFICATE.as_ref().expect("a certificate");
        let body = ours.pem.split("-----END CERTIFICATE-----").next().expect("a certificate first");
        assert!(dtls.property::<String>("pem").starts_with(body), "dtlsdec kept its own certificate");
    }
}
