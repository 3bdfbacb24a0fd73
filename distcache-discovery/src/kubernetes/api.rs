//! Asks the API server: a whole list, page by page, or what changes after it. Every answer has a deadline and a bound.
//!
//! kube's own `Api` and `watcher` read answers to their end and lines to theirs, however long; so this goes one level lower, to
//! [`Client::send`], which also spares the dependencies of kube's runtime.

use std::fmt;
use std::time::Duration;

use http::Request;
use http::header::{ACCEPT_ENCODING, HeaderValue};
use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::client::Body;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::body::{Lines, read_all};
use super::error::{ApiError, Verb};
use super::object::{Event, List, Named, Status};
use super::store::{Object, Store};
use super::target::Target;
use crate::DiscoveryError;

/// Asks for one target in one namespace.
pub(super) struct Api {
    client: Client,
    target: Target,
    namespace: String,
    call_timeout: Duration,
}

impl Api {
    pub(super) fn new(client: Client, target: Target, namespace: String, call_timeout: Duration) -> Self {
        Self { client, target, namespace, call_timeout }
    }

    /// Returns everything there is now, and the version from which a watch goes on.
    pub(super) async fn list(&self) -> Result<(Store, String), ApiError> {
        let listed = async {
            for _ in 0..LIST_ATTEMPTS {
                match self.list_once().await {
                    // The server has forgotten the version that the pages were of.
                    Err(error) if error.is_gone() => {}
                    done => return done,
                }
            }
            Err(ApiError::Changing)
        };
        timeout(self.call_timeout, listed).await.unwrap_or(Err(ApiError::Timeout(self.call_timeout)))
    }

    async fn list_once(&self) -> Result<(Store, String), ApiError> {
        let mut store = Store::default();
        let mut params = ListParams::default().labels(&self.target.selector()).limit(PAGE_LEN);
        loop {
            let body = self.send(self.resource().list(&params)).await?;
            let page = read_all(body, PAGE_BYTES).await?;
            let list: List<'_> = serde_json::from_slice(&page).map_err(ApiError::Malformed)?;
            for object in list.items.into_iter().flatten().filter_map(|object| self.target.read(object)) {
                store.put(object);
            }
            let version = list.metadata.resource_version.unwrap_or_default();
            params.continue_token = list.metadata.next.filter(|next| !next.is_empty() && !store.is_full());
            if params.continue_token.is_none() {
                return Ok((store, version));
            }
        }
    }

    /// Begins to watch what comes after a version, until the server ends it after about `lasts`.
    pub(super) async fn watch(&self, version: &str, lasts: Duration) -> Result<Events<'_>, ApiError> {
        let params = WatchParams::default()
            .labels(&self.target.selector())
            .timeout(u32::try_from(lasts.as_secs()).unwrap_or(u32::MAX));
        let opened = self.send(self.resource().watch(&params, version));
        let body = timeout(self.call_timeout, opened).await.unwrap_or(Err(ApiError::Timeout(self.call_timeout)))?;
        Ok(Events { target: &self.target, lines: Lines::new(body, LINE_BYTES) })
    }

    /// Says to the user what went wrong.
    pub(super) fn explain(&self, error: ApiError, verb: Verb) -> DiscoveryError {
        error.explain(verb, self.target.resource(), &self.namespace)
    }

    fn resource(&self) -> kube::core::Request {
        kube::core::Request::new(self.target.path(&self.namespace))
    }

    /// Sends a request, and returns the body of an answer that says yes.
    async fn send(&self, request: Result<Request<Vec<u8>>, kube::core::request::Error>) -> Result<Body, ApiError> {
        let mut request = request.map_err(|error| ApiError::Request(error.to_string()))?;
        // A bound of what is sent is then one of what is read, whichever features kube has in this program.
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let response = self.client.send(request.map(Body::from)).await.map_err(ApiError::Client)?;
        let (status, body) = (response.status(), response.into_body());
        if status.is_success() {
            return Ok(body);
        }
        // A proxy in between may say no in other words, and then its code alone has to do.
        let said = read_all(body, STATUS_BYTES).await.unwrap_or_default();
        let said: Status = serde_json::from_slice(&said).unwrap_or_default();
        Err(ApiError::status(status.as_u16(), said.message))
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("target", &self.target).field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// What happens while one watches, one at a time.
pub(super) struct Events<'a> {
    target: &'a Target,
    lines: Lines,
}

/// One thing that happened.
#[derive(Debug)]
pub(super) enum Happening {
    /// An object is so now.
    Put(Object),
    /// An object is gone, or no longer among those asked for.
    Removed(String),
    /// Nothing that is of use here.
    Nothing,
}

impl Events<'_> {
    /// Returns what happened next, and the version that makes it; `None` once the server ended the watch.
    ///
    /// # Cancel safety
    ///
    /// A dropped call loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<(Happening, Option<String>)>, ApiError> {
        let Some(line) = self.lines.next().await? else { return Ok(None) };
        let event: Event<'_> = serde_json::from_slice(line).map_err(ApiError::Malformed)?;
        if event.kind == "ERROR" {
            let status: Status = serde_json::from_str(event.object.get()).unwrap_or_default();
            return Err(ApiError::status(status.code, status.message));
        }
        let version = version(event.object);
        let happening = match &*event.kind {
            "ADDED" | "MODIFIED" => self.target.read(event.object).map(Happening::Put),
            "DELETED" => self.target.read(event.object).map(|object| Happening::Removed(object.name)),
            _ => None,
        };
        Ok(Some((happening.unwrap_or(Happening::Nothing), version)))
    }
}

fn version(object: &RawValue) -> Option<String> {
    serde_json::from_str::<Named>(object.get()).ok()?.metadata.resource_version
}

/// Small enough for a page of pods to stay below [`PAGE_BYTES`], each with 64 KiB.
const PAGE_LEN: u32 = 250;
const PAGE_BYTES: usize = 16 << 20;
/// etcd takes no object above 1.5 MiB.
const LINE_BYTES: usize = 2 << 20;
/// What the server says with a no is a sentence.
const STATUS_BYTES: usize = 64 << 10;
/// Once is rare: it takes a page more than five minutes.
const LIST_ATTEMPTS: usize = 3;
