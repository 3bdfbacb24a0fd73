//! The steps that ARCHITECTURE.md tells, pinned by the spans they leave: prose and code cannot drift apart.

use std::sync::{Arc, Mutex};

use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, prelude::*, registry::LookupSpan};

use crate::harness::{Links, Node, TestCluster, key};

/// Notes each span of ours as `name` when it opens and `name=outcome` when its outcome is recorded.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

impl Recorder {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let name = attributes.metadata().name();
        if name.starts_with("distcache.") {
            self.0.lock().unwrap().push(name.to_owned());
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut outcome = Outcome(None);
        values.record(&mut outcome);
        if let Some(outcome) = outcome.0 {
            self.0.lock().unwrap().push(format!("{}={outcome}", span.name()));
        }
    }
}

struct Outcome(Option<String>);

impl Visit for Outcome {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "outcome" {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

async fn steps(recorder: &Recorder, node: &Node, key: &str) -> Vec<String> {
    recorder.take();
    node.read(key).await;
    recorder.take()
}

#[tokio::test(flavor = "current_thread")]
async fn each_way_to_a_value_leaves_the_spans_that_the_architecture_tells() {
    let recorder = Recorder::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(recorder.clone()));
    let mut cluster = TestCluster::start(2, 40, Links::Plain).await;

    let (mut mine, mut theirs) = (None, None);
    for n in 0..40 {
        let owner = cluster.owner_of(&key(n)).await;
        let slot = if owner == 0 { &mut mine } else { &mut theirs };
        slot.get_or_insert(key(n));
    }
    let (mine, theirs) = (mine.unwrap(), theirs.unwrap());
    // Other tests run spans without a recorder at the same time, and what is cached of who wants them may be theirs.
    tracing::callsite::rebuild_interest_cache();
    let node = &cluster.nodes[0];
    assert_eq!(steps(&recorder, node, &mine).await, [""; 0], "a hit leaves no span");
    assert_eq!(steps(&recorder, node, &theirs).await, ["distcache.get", "distcache.ask", "distcache.get=peer_hit"]);
    assert_eq!(steps(&recorder, node, "nobody").await.last().unwrap(), "distcache.get=missing");

    for key in [&mine, &theirs] {
        assert!(node.engine.delete(crate::harness::ROWS, key).await.unwrap().is_applied());
    }
    assert_eq!(steps(&recorder, node, &mine).await, ["distcache.get", "distcache.get=local_load"]);
    assert_eq!(steps(&recorder, node, &theirs).await, ["distcache.get", "distcache.ask", "distcache.get=peer_load"]);

    drop(cluster.nodes.pop());
    let node = &cluster.nodes[0];
    assert_eq!(steps(&recorder, node, &theirs).await, ["distcache.get", "distcache.ask", "distcache.get=fallback"]);
    cluster.shutdown().await;
}
