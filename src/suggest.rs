//! "Did you mean": the existing name that a mistyped one is closest to.

use crate::{Error, Result};

/// The candidate most like `name`, if any is like enough to have been meant.
///
/// Similarity is Jaro–Winkler's; 0.8 lets a typo or two through and stops unrelated words, by trial on the slugs,
/// plans and roles of the tests.
pub(crate) fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate.to_owned())
}

/// The value of a fixed set that `text` names.
pub(crate) fn one_of<T: Copy>(field: &'static str, text: &str, values: &[(&'static str, T)]) -> Result<T> {
    if let Some((_, value)) = values.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
    Err(Error::Invalid {
        field,
        value: text.into(),
        reason: format!("it is none of {}", names.join(", ")),
        hint: closest(text, names).map(|name| format!("did you mean {name:?}?")),
    })
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn typos_are_recognised_and_strangers_are_not() {
        let plans = ["free", "starter", "professional", "enterprise"];
        assert_eq!(closest("profesional", plans).as_deref(), Some("professional"));
        assert_eq!(closest("stater", plans).as_deref(), Some("starter"));
        assert_eq!(closest("gold", plans), None);
        assert_eq!(
            closest("acme-univeristy", ["acme-university", "beta"]).as_deref(),
            Some("acme-university")
        );
    }
}
