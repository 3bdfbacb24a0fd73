//! A stand-in for a Kubernetes API server, in this process or in one of its own.
//!
//! It speaks the part of the API that a client needs to list and to watch the pods and endpoint slices of a namespace: label
//! selectors, pages, resource versions, bookmarks, and 410 for a version that is too old. There is no TLS, nobody has to log in,
//! and no object changes by itself. What it lists is put there by a test, which can also end the server, start it again at the
//! same port, and have it fail in the ways in which API servers do.
//!
//! Start at [`ApiServer`]. The program `distcache-kube-api` runs one as a process, and takes pods as lines of its standard input.
//!
//! # Examples
//!
//! ```
//! use distcache_kube_api::{ApiServer, Pod};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let server = ApiServer::start().await?;
//! server.put_pod(&Pod::starting("cache-0", "10.0.0.1".parse().unwrap()));
//! println!("pods: {}/api/v1/namespaces/default/pods", server.url());
//! server.remove_pod("cache-0");
//! server.stop().await;
//! # Ok(())
//! # }
//! ```

mod fault;
mod line;
mod objects;
mod query;
mod respond;
mod selector;
mod server;
mod store;
mod watching;

pub use fault::{Fault, Verb};
pub use line::{Line, LineError};
pub use objects::{Endpoint, Pod, Slice};
pub use server::ApiServer;
