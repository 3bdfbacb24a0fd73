//! Answers requests as an API server does, or fails as it was told to.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, future, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::{Request, Response};
use serde_json::{Value, json};

use crate::fault::{Fault, Verb};
use crate::query::{Collection, Query};
use crate::server::Shared;
use crate::store::Gone;
use crate::watching;

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Answers one request.
pub(crate) async fn respond<B>(shared: Arc<Shared>, request: Request<B>) -> Result<Response<Body>, Infallible> {
    let query = match Query::parse(request.uri().path(), request.uri().query().unwrap_or_default()) {
        Ok(query) => query,
        Err((code, reason)) => return Ok(refuse(code, reason, &format!("cannot answer {}", request.uri()))),
    };
    shared.count(query.verb);
    let fault = shared.faults().of(query.verb);
    Ok(match (fault, query.verb) {
        (Some(fault), verb) if (fault, verb) != (Fault::Mute, Verb::Watch) => {
            fail(fault, &query.collection, verb).await
        }
        (fault, Verb::Watch) => match watching::Watching::open(shared, query, fault.is_some()) {
            Ok(watching) => streamed(watching.into_stream()),
            Err(Gone) => refuse(410, "Expired", "too old resource version"),
        },
        (_, Verb::List) => list(&shared, &query),
    })
}

fn list(shared: &Shared, query: &Query) -> Response<Body> {
    let store = shared.store();
    let Ok(page) = store.page(&query.collection, &query.selector, query.limit, query.token.as_deref()) else {
        return refuse(410, "Expired", "the provided continue parameter is too old");
    };
    let (version, kind) = query.collection.kind.names();
    let mut metadata = json!({ "resourceVersion": page.version.to_string() });
    if let Some(next) = page.next {
        metadata["continue"] = json!(next);
    }
    let items: Vec<&Value> = page.items.iter().map(Arc::as_ref).collect();
    let list = json!({ "apiVersion": version, "kind": format!("{kind}List"), "metadata": metadata, "items": items });
    whole(200, &list)
}

async fn fail(fault: Fault, collection: &Collection, verb: Verb) -> Response<Body> {
    match fault {
        Fault::Unauthorized => refuse(401, "Unauthorized", "Unauthorized"),
        Fault::Forbidden => {
            let ((group, resource), verb) = (collection.kind.resource(), format!("{verb:?}").to_lowercase());
            let message = format!(
                "{resource} is forbidden: User \"system:serviceaccount:default:default\" cannot {verb} resource \
                 \"{resource}\" in API group \"{group}\" in the namespace \"{}\"",
                collection.namespace
            );
            refuse(403, "Forbidden", &message)
        }
        Fault::Gone => refuse(410, "Expired", "too old resource version"),
        Fault::Internal => refuse(500, "InternalError", "etcdserver: leader changed"),
        Fault::Garbage => streamed(stream::once(future::ready(Bytes::from_static(b"<html>not a list</html>\n")))),
        Fault::Endless => streamed(stream::repeat(Bytes::from_static(&[b' '; 16 * 1024]))),
        Fault::Hang => future::pending().await,
        Fault::Mute => streamed(stream::pending()),
    }
}

/// The way in which an API server says no.
fn refuse(code: u16, reason: &str, message: &str) -> Response<Body> {
    whole(code, &status(code, reason, message))
}

/// The object in which an API server says no.
pub(crate) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}

fn whole(code: u16, body: &Value) -> Response<Body> {
    response(code, Full::new(Bytes::from(body.to_string())).boxed_unsync())
}

fn streamed(chunks: impl Stream<Item = Bytes> + Send + 'static) -> Response<Body> {
    response(200, StreamBody::new(chunks.map(|chunk| Ok(Frame::data(chunk)))).boxed_unsync())
}

fn response(code: u16, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    if let Ok(code) = code.try_into() {
        *response.status_mut() = code;
    }
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    response
}
