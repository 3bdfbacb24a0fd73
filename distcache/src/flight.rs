//! Waiting for a load, and the tasks that do the loading.

use distcache_core::{Fill, Follower, Outcome};
use tokio::time::{Instant, timeout_at};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::error::{Error, ErrorKind, Result};

/// Where loads run: tasks that belong to the node, not to a caller.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flights {
    tasks: TaskTracker,
    closed: CancellationToken,
}

impl Flights {
    /// Runs a load until it is done or the node is closed. A fill that is dropped hands its lead on.
    pub(crate) fn spawn(&self, load: impl Future<Output = ()> + Send + 'static) {
        let closed = self.closed.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = closed.cancelled() => {}
                () = load => {}
            }
        });
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Ends all loads.
    pub(crate) fn cancel(&self) {
        self.closed.cancel();
    }

    /// Ends all loads and waits for their tasks.
    pub(crate) async fn close(&self) {
        self.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Waits for a flight until the deadline. Should its leader go away, `lead` starts the load anew.
pub(crate) async fn follow<V>(
    mut follower: Follower<Box<str>, V>,
    deadline: Instant,
    lead: impl Fn(Fill<Box<str>, V>),
) -> Result<V>
where
    V: Clone + Send + Sync + 'static,
{
    for _ in 0..MAX_HANDOVERS {
        match timeout_at(deadline, follower).await {
            Err(_) => return Err(Error::timeout("the read")),
            Ok(Outcome::Value(value)) => return Ok(value),
            Ok(Outcome::Failed(failure)) => {
                let unknown = || Error::new(ErrorKind::Internal, "a load failed with an error of another kind");
                return Err(failure.downcast_ref::<Error>().cloned().unwrap_or_else(unknown));
            }
            Ok(Outcome::Lead(fill)) => {
                follower = fill.follower();
                lead(fill);
            }
        }
    }
    Err(Error::closed())
}

/// Loads run in tasks of the node, so a lead is handed over only when the node closes. Twice is enough to see it.
const MAX_HANDOVERS: usize = 2;
