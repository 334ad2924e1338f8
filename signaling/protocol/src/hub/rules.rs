//! An index of the rules of rooms, so that a join and a reload take the same time with one rule and with thousands.

use super::rights::{PasswordHash, RoomPattern, RoomRule};
use crate::id::RoomId;
use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};

/// The passwords of rooms. The most specific rule of a room counts: its full name, otherwise the longest prefix.
#[derive(Debug, Default)]
pub struct RoomRules {
    exact: BTreeMap<RoomId, Option<PasswordHash>>,
    prefixes: BTreeMap<String, Option<PasswordHash>>,
}

impl RoomRules {
    /// Indexes rules. Of several rules for one pattern, the last counts.
    pub fn new(rules: &[RoomRule]) -> Self {
        let mut index = Self::default();
        for RoomRule { rooms, password } in rules {
            match rooms {
                RoomPattern::Exact(name) => index.exact.insert(name.clone(), password.clone()),
                RoomPattern::Prefix(prefix) => index.prefixes.insert(prefix.clone(), password.clone()),
            };
        }
        index
    }

    /// The password of a room, if it has one.
    pub fn password_of(&self, room_id: &RoomId) -> Option<&PasswordHash> {
        let exact = self.exact.get(room_id);
        exact.or_else(|| self.longest_prefix(room_id.as_str()))?.as_ref()
    }

    /// Whether the rooms of a pattern need a password, unless a more specific rule says otherwise.
    pub fn is_closed(&self, rooms: &RoomPattern) -> bool {
        match rooms {
            RoomPattern::Exact(name) => self.password_of(name).is_some(),
            RoomPattern::Prefix(prefix) => self.longest_prefix(prefix).is_some_and(Option::is_some),
        }
    }

    /// The rule with the longest prefix of a name.
    ///
    /// In the order of the map, the entry at or before the name is either a prefix of the name, or it differs from the
    /// name at some character. In that case, every entry that is a prefix of the name is a prefix of their common part,
    /// so the search continues with that part.
    fn longest_prefix(&self, name: &str) -> Option<&Option<PasswordHash>> {
        let mut name = name;
        loop {
            let (prefix, password) =
                self.prefixes.range::<str, _>((Unbounded, Included(name))).next_back()?;
            if name.starts_with(prefix.as_str()) {
                return Some(password);
            }
            let common = name.chars().zip(prefix.chars()).take_while(|(a, b)| a == b);
            let length = common.map(|(a, _)| a.len_utf8()).sum();
            name = name.get(..length)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: &str, hash: Option<&str>) -> RoomRule {
        RoomRule { rooms: RoomPattern::new(pattern).unwrap(), password: hash.map(PasswordHash::new) }
    }

    #[test]
    fn the_most_specific_rule_of_a_room_counts() {
        let rules = [
            rule("lab*", Some("lab")),
            rule("lab open", None),
            rule("*", Some("all")),
            rule("lab 1*", Some("one")),
            rule("lab 1 a", Some("exact")),
            rule("客厅*", Some("客")),
        ];
        let index = RoomRules::new(&rules);
        let of = |name: &str| index.password_of(&RoomId::new(name).unwrap()).map(PasswordHash::expose);
        for (name, hash) in [
            ("hall", Some("all")),
            ("la", Some("all")),
            ("lab", Some("lab")),
            ("lab 0", Some("lab")),
            ("lab 1", Some("one")),
            ("lab 1 a", Some("exact")),
            ("lab 1 ab", Some("one")),
            ("lab 2", Some("lab")),
            ("lab open", None),
            ("lab open 2", Some("lab")),
            ("客厅 2", Some("客")),
            ("客", Some("all")),
            ("zoo", Some("all")),
        ] {
            assert_eq!(of(name), hash, "{name}");
        }
        assert_eq!(RoomRules::new(&rules[..1]).password_of(&RoomId::new("x").unwrap()), None);
        assert_eq!(RoomRules::default().password_of(&RoomId::new("x").unwrap()), None);
    }

    #[test]
    fn a_pattern_is_closed_by_itself_or_by_a_shorter_prefix() {
        let index = RoomRules::new(&[rule("lab*", Some("lab")), rule("lab open*", None)]);
        for (pattern, closed) in [
            ("lab*", true),
            ("lab 1*", true),
            ("lab 1", true),
            ("lab open*", false),
            ("lab open 1", false),
            ("la*", false),
            ("*", false),
        ] {
            assert_eq!(index.is_closed(&RoomPattern::new(pattern).unwrap()), closed, "{pattern}");
        }
    }

    #[test]
    fn looking_up_a_password_does_not_depend_on_the_number_of_rules() {
        let many: Vec<_> = (0..50_000).map(|n| rule(&format!("r{n}*"), Some("hash"))).collect();
        let index = RoomRules::new(&many);
        let began = std::time::Instant::now();
        for n in 0..20_000 {
            assert!(index.password_of(&RoomId::new(format!("r{n} a")).unwrap()).is_some());
        }
        // A scan takes 10 s and more.
        assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
    }
}
