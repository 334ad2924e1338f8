//! The DTLS certificate of this process: ECDSA on P-256, which every WebRTC peer accepts.
//!
//! webrtcbin creates an RSA certificate, with which peers that offer only ECDSA suites (aiortc) cannot complete the
//! handshake. [`install`] sets this certificate on each `dtlsdec` inside a webrtcbin instead. webrtcbin still writes the
//! fingerprint of its own certificate (RFC 8122), so every outgoing description must be changed to [`fingerprint`].
//!
//! The comparison of the peer's certificate with its description is in `../sdp/fingerprint.rs`.

use crate::sync::lock;
use gst::prelude::*;
use sha2::{Digest, Sha256};
use std::{
    sync::{Arc, LazyLock, Mutex, Once},
    thread::JoinHandle,
};

struct Certificate {
    /// Certificate and private key, in the form of `dtlsdec`'s property `pem`.
    pem: String,
    /// SHA-256 of the certificate, upper-case hexadecimal with colons.
    fingerprint: String,
}

/// Created on first use. `None` if that failed; webrtcbin then keeps its own certificate.
static CERTIFICATE: LazyLock<Option<Certificate>> = LazyLock::new(|| match generate() {
    Ok(certificate) => Some(certificate),
    Err(error) => {
        gst::warning!(
            crate::log::CAT,
            "using webrtcbin's RSA certificate, because creating an ECDSA one failed: {error}"
        );
        None
    }
});

/// Gives every DTLS transport of `webrtcbin` the certificate of this process, and calls `peer` with the certificate
/// (PEM) that the peer presents. Must be called before the first pad or description.
pub(crate) fn install(webrtcbin: &gst::Element, peer: impl Fn(String) + Send + Sync + 'static) {
    let Some(bin) = webrtcbin.downcast_ref::<gst::Bin>() else { return };
    let peer = Arc::new(peer);
    bin.connect_deep_element_added(move |_, _, element| {
        if element.factory().is_none_or(|factory| factory.name() != "dtlsdec") {
            return;
        }
        if let Some(certificate) = CERTIFICATE.as_ref() {
            element.set_property("pem", &certificate.pem);
        }
        let peer = peer.clone();
        element.connect_notify(Some("peer-pem"), move |dtlsdec, _| {
            if let Some(pem) = dtlsdec.property::<Option<String>>("peer-pem") {
                peer(pem);
            }
        });
    });
}

/// The SHA-256 fingerprint of the certificate that [`install`] sets. `None` if webrtcbin keeps its own certificate.
pub(crate) fn fingerprint() -> Option<&'static str> {
    CERTIFICATE.as_ref().map(|certificate| certificate.fingerprint.as_str())
}

static WARM_UP: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);

/// Creates the certificate in the background, once per process. Also triggers the generation of the RSA key with which the
/// first DTLS element of a process is delayed by a quarter of a second.
pub(crate) fn warm_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let spawned = std::thread::Builder::new().name("room-warm-up".into()).spawn(|| {
            LazyLock::force(&CERTIFICATE);
            drop(gst::ElementFactory::make("dtlsdec").build());
        });
        match spawned {
            Ok(thread) => *lock(&WARM_UP) = Some(thread),
            Err(error) => gst::debug!(crate::log::CAT, "cannot create a thread to warm up DTLS: {error}"),
        }
    });
}

/// Waits for the end of [`warm_up`], because a process must not end while OpenSSL generates a key.
pub(crate) fn wait_for_warm_up() {
    let thread = lock(&WARM_UP).take();
    if let Some(thread) = thread {
        let _ = thread.join();
    }
}

fn generate() -> Result<Certificate, rcgen::Error> {
    // rcgen's defaults are ECDSA P-256 with SHA-256, and a validity until the year 4096. Peers compare the fingerprint
    // and ignore dates; a process may run for years.
    let made = rcgen::generate_simple_self_signed(vec!["roomwebrtc".to_owned()])?;
    let fingerprint = Sha256::digest(made.cert.der())
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect::<Vec<_>>()
        .join(":");
    Ok(Certificate { pem: made.cert.pem() + &made.signing_key.serialize_pem(), fingerprint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_a_p256_one_with_32_bytes_of_fingerprint() {
        let made = generate().expect("a certificate");
        assert_eq!(made.fingerprint.split(':').count(), 32);
        assert!(made.pem.contains("BEGIN CERTIFICATE") && made.pem.contains("BEGIN PRIVATE KEY"));
        // A P-256 key with its public part is 138 bytes of PKCS#8: far less than any RSA key.
        assert!(made.pem.len() < 1500, "{} bytes of PEM", made.pem.len());
    }

    #[test]
    fn a_dtls_element_inside_webrtcbin_gets_the_certificate() {
        gst::init().expect("GStreamer");
        let webrtcbin = gst::ElementFactory::make("webrtcbin").build().expect("webrtcbin");
        install(&webrtcbin, |_| ());
        let dtls = gst::ElementFactory::make("dtlsdec").build().expect("dtlsdec");
        webrtcbin.downcast_ref::<gst::Bin>().expect("a bin").add(&dtls).expect("added");
        let ours = CERTIFICATE.as_ref().expect("a certificate");
        let body = ours.pem.split("-----END CERTIFICATE-----").next().expect("a certificate first");
        assert!(dtls.property::<String>("pem").starts_with(body), "dtlsdec kept its own certificate");
    }
}
