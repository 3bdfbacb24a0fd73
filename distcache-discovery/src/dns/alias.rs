//! Looks up the records of one name and type, through aliases.

use std::fmt::Debug;

use async_trait::async_trait;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::error::{Cause, LookupError};

/// Puts one question, and follows no alias.
#[async_trait]
pub(super) trait Ask: Debug + Send + Sync {
    async fn ask(&self, name: &Name, record_type: RecordType) -> Result<Reply, LookupError>;
}

/// What was answered to one question.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) answers: Vec<Record>,
    pub(super) additionals: Vec<Record>,
    /// The answer says itself that there is nothing behind its last alias.
    pub(super) is_final: bool,
}

/// The records of a name; none if there are none.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) found: Vec<RData>,
    /// The least TTL on the way, in seconds.
    pub(super) ttl: u32,
    pub(super) additionals: Vec<Record>,
}

/// Asks for the records of `name`, and for those of its alias if the answer stops at one.
///
/// RFC 1034, section 3.6.2: an answer holds the aliases and what they lead to, as far as the server knows.
pub(super) async fn look_up(servers: &dyn Ask, name: &Name, record_type: RecordType) -> Result<Records, LookupError> {
    let mut at = name.clone();
    let mut ttl = u32::MAX;
    let mut aliases = 0;
    loop {
        let asked = at.clone();
        let reply = servers.ask(&asked, record_type).await?;
        while let Some((target, alias_ttl)) = alias_of(&at, &reply.answers) {
            aliases += 1;
            if aliases > MAX_ALIASES {
                return Err(LookupError::new(name, record_type, Cause::Aliases));
            }
            ttl = ttl.min(alias_ttl);
            at = target;
        }
        let records = reply.answers.iter().filter(|record| record.name == at && record.record_type() == record_type);
        let found: Vec<RData> =
            records.inspect(|record| ttl = ttl.min(record.ttl)).map(|record| record.data.clone()).collect();
        if !found.is_empty() || reply.is_final || at == asked {
            return Ok(Records { found, ttl, additionals: reply.additionals });
        }
    }
}

fn alias_of(name: &Name, answers: &[Record]) -> Option<(Name, u32)> {
    answers.iter().find_map(|record| match &record.data {
        RData::CNAME(target) if record.name == *name => Some((target.0.clone(), record.ttl)),
        _ => None,
    })
}

/// Resolvers give up between 8 and 16; nobody means more.
const MAX_ALIASES: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::stand_in::{Zone, a, cname, name};

    async fn ips(zone: &Zone) -> Result<(usize, u32), Cause> {
        let records = look_up(zone, &name("cache."), RecordType::A).await.map_err(|error| error.cause)?;
        Ok((records.found.len(), records.ttl))
    }

    #[tokio::test]
    async fn aliases_in_one_answer_are_followed_and_the_least_ttl_counts() {
        let zone = Zone::default();
        let aliases =
            [cname("x.", 20, "Y."), cname("CACHE.", 30, "x."), a("y.", 60, "10.0.0.1"), a("y.", 50, "10.0.0.2")];
        zone.set("cache.", RecordType::A, aliases);
        assert_eq!(ips(&zone).await.unwrap(), (2, 20));
        assert_eq!(zone.asked(), 1);
    }

    #[tokio::test]
    async fn an_alias_that_the_answer_leaves_open_is_asked_for() {
        let zone = Zone::default();
        zone.set("cache.", RecordType::A, [cname("cache.", 7, "x.")]);
        zone.set("x.", RecordType::A, [a("x.", 60, "10.0.0.1")]);
        assert_eq!(ips(&zone).await.unwrap(), (1, 7));
        assert_eq!(zone.asked(), 2);
    }

    #[tokio::test]
    async fn an_alias_to_nothing_is_no_record() {
        let zone = Zone::default();
        zone.set("cache.", RecordType::A, [cname("cache.", 7, "x.")]);
        assert_eq!(ips(&zone).await.unwrap().0, 0);
    }

    #[tokio::test]
    async fn a_circle_is_a_failure_within_one_answer_and_across_several() {
        let zone = Zone::default();
        zone.set("cache.", RecordType::A, [cname("cache.", 7, "x."), cname("x.", 7, "cache.")]);
        assert!(matches!(ips(&zone).await, Err(Cause::Aliases)));
        zone.set("cache.", RecordType::A, [cname("cache.", 7, "x.")]);
        zone.set("x.", RecordType::A, [cname("x.", 7, "cache.")]);
        assert!(matches!(ips(&zone).await, Err(Cause::Aliases)));
        assert!(zone.asked() < 20, "{}", zone.asked());
        zone.set("cache.", RecordType::A, [cname("cache.", 7, "cache.")]);
        assert!(matches!(ips(&zone).await, Err(Cause::Aliases)));
    }

    #[tokio::test]
    async fn records_of_another_name_or_type_are_not_taken() {
        let zone = Zone::default();
        zone.set("cache.", RecordType::A, [a("other.", 7, "10.0.0.1"), a("cache.", 7, "fd00::1")]);
        assert_eq!(ips(&zone).await.unwrap().0, 0);
    }
}
