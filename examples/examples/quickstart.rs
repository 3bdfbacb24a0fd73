//! The smallest program: one process, no network, one load for two reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use distcache::{Bytes, DataSource, Engine, SourceError, SourceKeySpace, async_trait};

/// Stands for your database, and counts how often it is asked.
#[derive(Clone, Default)]
struct Greetings {
    loads: Arc<AtomicU64>,
}

#[async_trait]
impl DataSource for Greetings {
    async fn fetch(&self, key: &str) -> Result<Option<Bytes>, SourceError> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        Ok(Some(Bytes::from(format!("hello, {key}"))))
    }
}

#[tokio::main]
async fn main() -> Result<(), distcache::Error> {
    let source = Greetings::default();
    let engine = Engine::builder().keyspace(SourceKeySpace::new("greetings", source.clone())).start().await?;

    let loaded = engine.get("greetings", "world").await?;
    let cached = engine.get("greetings", "world").await?;

    assert_eq!(loaded, cached);
    assert_eq!(source.loads.load(Ordering::Relaxed), 1);
    println!("two reads of {cached:?}, one load");
    Ok(())
}
