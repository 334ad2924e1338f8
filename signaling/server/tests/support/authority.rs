//! Certificates for tests of TLS, and clients that trust them.

use super::{Client, Folder};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use room_signaling_server::Tls;
use std::{net::SocketAddr, sync::Arc, time::SystemTime};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

/// A certificate authority of the test.
pub(crate) struct Authority(pub(crate) CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, in PEM.
pub(crate) struct Made {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for 127.0.0.1.
    pub(crate) fn make(&self) -> Made {
        self.make_with(|_| {})
    }

    pub(crate) fn make_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Made {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Made { chain: params.signed_by(&key, &self.0).unwrap().pem(), key: key.serialize_pem() }
    }

    /// Connects as a client that trusts only this authority.
    pub(crate) async fn connect(&self, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::from(address.ip());
        TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
    }

    pub(crate) async fn client(&self, address: SocketAddr) -> Client<TlsStream<TcpStream>> {
        Client::over(self.connect(address).await.unwrap(), address).await
    }
}

impl Made {
    pub(crate) fn tls(&self) -> Tls {
        Tls::new(self.chain.as_bytes(), self.key.as_bytes(), SystemTime::now()).unwrap()
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.chain.as_bytes()).unwrap()
    }

    pub(crate) fn write(&self, folder: &Folder) -> [String; 2] {
        [folder.write("chain.pem", &self.chain), folder.write("key.pem", &self.key)]
    }
}

pub(crate) fn certificate(client: &Client<TlsStream<TcpStream>>) -> CertificateDer<'static> {
    client.socket.get_ref().get_ref().1.peer_certificates().unwrap()[0].clone()
}
