//! Names of things that are few: a table of them for each kind, read both ways.

use std::fmt;

use crate::spelling::did_you_mean;

/// A name that is none of those that are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownName {
    /// What it should name: `seed`, `split policy`, ...
    pub what: &'static str,
    /// The name.
    pub name: String,
    /// The names that are known.
    pub known: Vec<&'static str>,
    /// What else could stand in its place: `a .npy file`.
    pub other: Option<&'static str>,
}

impl UnknownName {
    /// The same, where something else could stand in the name's place.
    #[must_use]
    pub fn or(mut self, other: &'static str) -> UnknownName {
        self.other = Some(other);
        self
    }
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UnknownName { what, name, known, other } = self;
        write!(f, "got the {what} \"{name}\", expected one of {}", known.join(", "))?;
        if let Some(other) = other {
            write!(f, " or {other}")?;
        }
        f.write_str(&did_you_mean(name, known.iter().copied()))
    }
}

impl std::error::Error for UnknownName {}

/// What parsers of larger texts say, in a sentence.
impl From<UnknownName> for String {
    fn from(error: UnknownName) -> String {
        error.to_string()
    }
}

/// The name of `value` in a table of (name, value); the tables are total.
pub fn name_of<T: PartialEq + Copy>(table: &[(&'static str, T)], value: T) -> &'static str {
    table.iter().find(|(_, v)| *v == value).map_or("?", |(name, _)| name)
}

/// The value called `name`.
///
/// # Errors
/// If there is none; lists the names.
pub fn named<T: Copy>(what: &'static str, table: &[(&'static str, T)], name: &str) -> Result<T, UnknownName> {
    let found = table.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
    let known = || table.iter().map(|(n, _)| *n).collect();
    found.ok_or_else(|| UnknownName { what, name: name.to_string(), known: known(), other: None })
}

/// Gives an enum its names: `ALL`, the table of them, `name()`, and both ways through text.
#[macro_export]
macro_rules! names {
    ($type:ident, $what:literal, [$($name:literal => $variant:ident),* $(,)?]) => {
        impl $type {
            /// Every one with its name.
            pub const ALL: [(&'static str, $type); [$($name),*].len()] = [$(($name, $type::$variant)),*];

            /// The name.
            pub fn name(self) -> &'static str {
                match self {
                    $($type::$variant => $name),*
                }
            }
        }

        impl ::std::fmt::Display for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl ::std::str::FromStr for $type {
            type Err = $crate::names::UnknownName;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                $crate::names::named($what, &Self::ALL, name)
            }
        }
    };
}

#[cfg(test)]
mod tests {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Tree {
        Oak,
        Beech,
    }
    names!(Tree, "tree", ["oak" => Oak, "beech" => Beech]);

    #[test]
    fn names_read_back_and_unknown_ones_say_what_is_known() {
        for (name, tree) in Tree::ALL {
            assert_eq!((name.parse(), tree.to_string().as_str()), (Ok(tree), name));
        }
        let error = "beach".parse::<Tree>().unwrap_err();
        let says = "got the tree \"beach\", expected one of oak, beech or a seed (did you mean \"beech\"?)";
        assert_eq!(error.or("a seed").to_string(), says);
    }
}
