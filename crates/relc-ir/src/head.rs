//! The activation behind the explained output, which explanations start before.

/// What import-cleanup took off behind the explained output, or found there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Head {
    /// Nothing: the model's output is the explained one.
    #[default]
    None,
    /// A final `Softmax`, over groups of the outputs or over all.
    Softmax(Option<Groups>),
    /// A final `LogSoftmax`, likewise.
    LogSoftmax(Option<Groups>),
    /// A final `Sigmoid`.
    Sigmoid,
    /// Nothing, and the outputs are shares: a mean of softmaxes, of which each passes its relevance to its own logits.
    Mixture,
}

/// The outputs of a sample that a softmax over one of several axes normalises together: `size` of them, `stride` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Groups {
    /// How many outputs a group has.
    pub size: usize,
    /// From one of a group to the next.
    pub stride: usize,
}

impl Groups {
    /// The outputs of the group of an output, itself among them.
    pub fn of(self, output: usize) -> impl Iterator<Item = usize> {
        let stride = self.stride.max(1);
        let whole = self.size.max(1).saturating_mul(stride);
        let first = output / whole * whole + output % stride;
        (0..self.size).map(move |i| first.saturating_add(i * stride))
    }
}

impl Head {
    /// Every head with its name, over all outputs.
    pub const ALL: [(&'static str, Head); 5] = [
        ("none", Head::None),
        ("softmax", Head::Softmax(None)),
        ("log_softmax", Head::LogSoftmax(None)),
        ("sigmoid", Head::Sigmoid),
        ("mixture", Head::Mixture),
    ];

    /// The name in the text form.
    pub fn name(self) -> &'static str {
        let whole = self.over(None);
        Self::ALL.iter().find(|(_, h)| *h == whole).map_or("none", |(name, _)| name)
    }

    /// Where the explanation starts, for messages.
    pub fn described(self) -> String {
        match self {
            Head::Mixture => {
                "the softmaxes that the model's output is a mean of (a derivative goes through them)".into()
            }
            _ => format!("the model's final {}", self.name()),
        }
    }

    /// The groups that it normalises; `None`: all outputs together, or each alone.
    pub fn groups(self) -> Option<Groups> {
        match self {
            Head::Softmax(groups) | Head::LogSoftmax(groups) => groups,
            Head::None | Head::Sigmoid | Head::Mixture => None,
        }
    }

    /// The head over other groups, if it has some.
    #[must_use]
    pub fn over(self, groups: Option<Groups>) -> Head {
        match self {
            Head::Softmax(_) => Head::Softmax(groups),
            Head::LogSoftmax(_) => Head::LogSoftmax(groups),
            Head::None | Head::Sigmoid | Head::Mixture => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Groups;

    #[test]
    fn groups_are_those_of_the_axis() {
        // f32[2,3,4] along its middle axis: 12 outputs to a block, 4 from one to the next.
        let groups = Groups { size: 3, stride: 4 };
        assert_eq!(groups.of(6).collect::<Vec<_>>(), [2, 6, 10]);
        assert_eq!(groups.of(23).collect::<Vec<_>>(), [15, 19, 23]);
    }
}
