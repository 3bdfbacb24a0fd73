//! A socket that answers each datagram with whatever a test wants.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

pub(super) struct Liar {
    pub(super) addr: SocketAddr,
    udp: JoinHandle<()>,
    tcp: JoinHandle<()>,
}

impl Liar {
    /// Answers a question over UDP with what `udp` makes of it, and sends what `tcp` makes of it over TCP, as it is.
    pub(super) async fn start(
        udp: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
        tcp: impl Fn(&[u8]) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let addr = super::free_port();
        let socket = UdpSocket::bind(addr).await.unwrap();
        let listener = TcpListener::bind(addr).await.unwrap();
        let udp = tokio::spawn(async move {
            let mut buffer = vec![0; 65_536];
            loop {
                // An earlier asker may have closed its socket, which some systems report here.
                let Ok((len, from)) = socket.recv_from(&mut buffer).await else { continue };
                for datagram in udp(&buffer[..len]) {
                    let _ = socket.send_to(&datagram, from).await;
                }
            }
        });
        let tcp = tokio::spawn(async move {
            // Held open, so that only a deadline ends the wait of the other side.
            let mut held = Vec::new();
            loop {
                let Ok((mut stream, _)) = listener.accept().await else { continue };
                let mut length = [0; 2];
                if stream.read_exact(&mut length).await.is_ok() {
                    let mut question = vec![0; u16::from_be_bytes(length).into()];
                    let _ = stream.read_exact(&mut question).await;
                    let _ = stream.write_all(&tcp(&question)).await;
                    held.push(stream);
                }
            }
        });
        Self { addr, udp, tcp }
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.udp.abort();
        self.tcp.abort();
    }
}
