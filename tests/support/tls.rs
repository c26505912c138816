//! A TLS server in front of a plain one: it shows whatever certificate a test wants to see refused, and counts what got through.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(unreachable_pub, reason = "compiled into each test binary, whose root is not this module's parent alone")]
#![allow(clippy::missing_panics_doc, reason = "a test helper's panic is the test's failure")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};

/// A certificate authority of a test's own.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What a server shows, and its key.
pub struct Shown {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Authority {
    /// With a name of its own, as real ones have.
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(1);
        Self::named(&format!("Authority {}", COUNT.fetch_add(1, Ordering::SeqCst)))
    }

    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// For a `ca_file`.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Signs a certificate for `host`, after a change.
    pub fn signs(&self, host: &str, change: impl FnOnce(&mut CertificateParams)) -> Shown {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        change(&mut params);
        Shown { certificate: params.signed_by(&key, &self.0).unwrap().der().clone(), key }
    }

    /// Good for `localhost`, now.
    pub fn good(&self) -> Shown {
        self.signs("localhost", |_| ())
    }

    pub fn expired(&self) -> Shown {
        self.signs("localhost", |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    pub fn of_the_future(&self) -> Shown {
        self.signs("localhost", |params| {
            params.not_before = date_time_ymd(2300, 1, 1);
            params.not_after = date_time_ymd(2301, 1, 1);
        })
    }
}

/// A certificate for `localhost` that only its own key vouches for.
pub fn self_signed(authority: bool) -> Shown {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "localhost");
    if authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let certificate = params.self_signed(&key).unwrap();
    Shown { certificate: certificate.der().clone(), key }
}

/// Speaks TLS, and hands what comes through it to a plain server on loopback.
pub struct Front {
    addr: SocketAddr,
    arrived: Arc<AtomicUsize>,
    through: Arc<AtomicUsize>,
    // Ends the listener and its connections when it is dropped.
    _runtime: Runtime,
}

impl Front {
    /// In front of `plain`, an `http://…` address.
    pub fn new(shown: Shown, plain: &str) -> Self {
        let behind: SocketAddr = plain.trim_start_matches("http://").split('/').next().unwrap().parse().unwrap();
        let key = PrivateKeyDer::try_from(shown.key.serialize_der()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![shown.certificate], key);
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let addr = listener.local_addr().unwrap();
        let (arrived, through) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let counts = (Arc::clone(&arrived), Arc::clone(&through));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counts.0.fetch_add(1, Ordering::SeqCst);
                let (acceptor, through) = (acceptor.clone(), Arc::clone(&counts.1));
                tokio::spawn(async move {
                    let Ok(mut open) = acceptor.accept(stream).await else { return };
                    through.fetch_add(1, Ordering::SeqCst);
                    let Ok(mut behind) = tokio::net::TcpStream::connect(behind).await else { return };
                    // A side that goes away is no failure of the test.
                    let _ = tokio::io::copy_bidirectional(&mut open, &mut behind).await;
                });
            }
        });
        Self { addr, arrived, through, _runtime: runtime }
    }

    /// By the name that good certificates are for.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.addr.port())
    }

    /// Connections that were made, whatever became of them.
    pub fn arrived(&self) -> usize {
        self.arrived.load(Ordering::SeqCst)
    }

    /// Connections on which both sides agreed to speak.
    pub fn through(&self) -> usize {
        self.through.load(Ordering::SeqCst)
    }
}
