//! A hickory-server whose records and moods a test changes while it runs.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Header, HeaderCounts, ResponseCode};
use hickory_server::proto::rr::rdata::{CNAME, SOA, SRV};
use hickory_server::proto::rr::{Name, RData, Record, RecordType, RrKey};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, MessageResponseBuilder, ZoneType};
use tokio::net::{TcpListener, UdpSocket};

/// What the server does with a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Serve,
    Say(ResponseCode),
    Silent,
}

pub(super) struct Hickory {
    pub(super) addr: SocketAddr,
    zone: Arc<InMemoryZoneHandler>,
    state: Arc<State>,
    server: tokio::sync::Mutex<Option<Server<Handler>>>,
}

struct State {
    mood: Mutex<Mood>,
    udp: AtomicUsize,
    tcp: AtomicUsize,
}

impl Hickory {
    /// Starts a server of the zone `example`, which has no records yet and an SOA that would have their absence kept for an hour.
    pub(super) async fn start() -> Self {
        let origin = name("example.");
        let zone = InMemoryZoneHandler::empty(origin.clone(), ZoneType::Primary, AxfrPolicy::Deny);
        let soa = SOA::new(name("ns.example."), name("admin.example."), 1, 3600, 3600, 3600, 3600);
        zone.upsert(Record::from_rdata(origin, 3600, RData::SOA(soa)), 1).await;
        let state = State { mood: Mutex::new(Mood::Serve), udp: AtomicUsize::new(0), tcp: AtomicUsize::new(0) };
        let hickory = Self {
            addr: super::free_port(),
            zone: Arc::new(zone),
            state: Arc::new(state),
            server: tokio::sync::Mutex::new(None),
        };
        hickory.restart().await;
        hickory
    }

    pub(super) async fn restart(&self) {
        let mut catalog = Catalog::new();
        catalog.upsert(name("example.").into(), vec![Arc::clone(&self.zone) as _]);
        let mut server = Server::new(Handler { catalog, state: Arc::clone(&self.state) });
        // A client may have the port for a moment.
        let udp = super::until(|| async { UdpSocket::bind(self.addr).await.map_err(|error| error.to_string()) }).await;
        let tcp =
            super::until(|| async { TcpListener::bind(self.addr).await.map_err(|error| error.to_string()) }).await;
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(5), 64);
        *self.server.lock().await = Some(server);
    }

    pub(super) async fn stop(&self) {
        if let Some(mut server) = self.server.lock().await.take() {
            server.shutdown_gracefully().await.unwrap();
        }
    }

    pub(super) fn feel(&self, mood: Mood) {
        *self.state.mood.lock().unwrap() = mood;
    }

    /// How many questions came over UDP and TCP.
    pub(super) fn asked(&self) -> (usize, usize) {
        (self.state.udp.load(SeqCst), self.state.tcp.load(SeqCst))
    }

    /// Replaces the addresses of a name.
    pub(super) async fn set(&self, at: &str, ttl: u32, ips: &[&str]) {
        self.clear(at, RecordType::A).await;
        self.clear(at, RecordType::AAAA).await;
        for ip in ips {
            self.add(at, ttl, ip.parse::<IpAddr>().unwrap().into()).await;
        }
    }

    /// Replaces the services of a name: port and target of each.
    pub(super) async fn set_services(&self, at: &str, ttl: u32, services: &[(u16, &str)]) {
        self.clear(at, RecordType::SRV).await;
        for (port, target) in services {
            self.add(at, ttl, RData::SRV(SRV::new(0, 0, *port, name(target)))).await;
        }
    }

    pub(super) async fn set_alias(&self, at: &str, ttl: u32, target: &str) {
        self.clear(at, RecordType::CNAME).await;
        self.add(at, ttl, RData::CNAME(CNAME(name(target)))).await;
    }

    pub(super) async fn add(&self, at: &str, ttl: u32, data: RData) {
        self.zone.upsert(Record::from_rdata(name(at), ttl, data), 1).await;
    }

    async fn clear(&self, at: &str, record_type: RecordType) {
        self.zone.records_mut().await.remove(&RrKey::new(name(at).into(), record_type));
    }
}

struct Handler {
    catalog: Catalog,
    state: Arc<State>,
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut reply: R) -> ResponseInfo {
        let count = if request.protocol() == Protocol::Udp { &self.state.udp } else { &self.state.tcp };
        count.fetch_add(1, SeqCst);
        let mood = *self.state.mood.lock().unwrap();
        match mood {
            Mood::Serve => self.catalog.handle_request::<R, T>(request, reply).await,
            Mood::Say(code) => {
                let response = MessageResponseBuilder::from_message_request(request).error_msg(&request.metadata, code);
                reply.send_response(response).await.unwrap()
            }
            Mood::Silent => ResponseInfo::from(Header { metadata: request.metadata, counts: HeaderCounts::default() }),
        }
    }
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}
