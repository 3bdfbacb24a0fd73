//! The part of the API's JSON that is read here, and nothing more of it.
//!
//! Of a pod, which may have a hundred kilobytes, a dozen fields matter. To read those alone costs less than the whole type would, goes
//! with every version of the API, and one object that is not as it should be does not spoil the list it is in.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// One page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct List<'a> {
    #[serde(default)]
    pub(super) metadata: ListMeta,
    /// Go writes an empty list as `null` at times.
    #[serde(borrow)]
    pub(super) items: Option<Vec<&'a RawValue>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListMeta {
    pub(super) resource_version: Option<String>,
    #[serde(rename = "continue")]
    pub(super) next: Option<String>,
}

/// One line of a watch.
#[derive(Debug, Deserialize)]
pub(super) struct Event<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) object: &'a RawValue,
}

/// What every object has.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub(super) metadata: Meta,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta {
    pub(super) name: Option<String>,
    pub(super) resource_version: Option<String>,
}

/// How the API server says no.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) code: u16,
    pub(super) message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_with_an_escape_in_its_type_and_a_list_of_null_are_read() {
        let event: Event<'_> = serde_json::from_str(r#"{"type":"AD\u0044ED","object":{"a":1},"more":[]}"#).unwrap();
        assert_eq!((&*event.kind, event.object.get()), ("ADDED", r#"{"a":1}"#));
        let list: List<'_> = serde_json::from_str(r#"{"metadata":{"resourceVersion":"7"},"items":null}"#).unwrap();
        assert!(list.items.is_none() && list.metadata.resource_version.as_deref() == Some("7"));
    }
}
