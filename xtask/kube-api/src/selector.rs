//! Label selectors, as far as tests need them.

use serde_json::Value;

/// Says which objects are asked for, by their labels: `app=cache,tier!=test`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    Is(String, String),
    IsNot(String, String),
    Exists(String),
    DoesNotExist(String),
}

impl Selector {
    /// Reads a selector; `None` if it is none, or of the kind with sets, which is not known here.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(requirement).collect::<Option<_>>().map(Self)
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|requirement| {
            let label = |key: &str| object["metadata"]["labels"][key].as_str();
            match requirement {
                Requirement::Is(key, value) => label(key) == Some(value),
                Requirement::IsNot(key, value) => label(key) != Some(value),
                Requirement::Exists(key) => label(key).is_some(),
                Requirement::DoesNotExist(key) => label(key).is_none(),
            }
        })
    }
}

fn requirement(text: &str) -> Option<Requirement> {
    let own = |text: &str| text.trim().to_owned();
    if let Some((key, value)) = text.split_once("!=") {
        return Some(Requirement::IsNot(own(key), own(value)));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Some(Requirement::Is(own(key), own(value)));
    }
    if text.contains(['(', ')', ' ']) {
        return None;
    }
    match text.strip_prefix('!') {
        Some(key) => Some(Requirement::DoesNotExist(own(key))),
        None => Some(Requirement::Exists(own(text))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_are_required_and_forbidden() {
        let object = json!({ "metadata": { "labels": { "app": "cache", "tier": "back" } } });
        for (text, wanted) in [
            ("", true),
            ("app=cache", true),
            ("app==cache,tier", true),
            ("app=cache,tier=front", false),
            ("app!=cache", false),
            ("zone!=a", true),
            ("!zone", true),
            ("!tier", false),
            ("zone", false),
        ] {
            assert_eq!(Selector::parse(text).unwrap().matches(&object), wanted, "{text}");
        }
        assert_eq!(Selector::parse("app in (cache)"), None);
        assert!(!Selector::parse("app=cache").unwrap().matches(&json!({})));
    }
}
