//! What is packed: made from weights, or given by who kept it.

use relc_ir::Values;

use crate::error::EngineError;

/// Packed weights, in the order in which a program's steps ask for them.
#[derive(Debug, Default)]
pub(super) struct Store {
    given: Option<std::vec::IntoIter<Values>>,
    kept: Vec<Values>,
}

impl Store {
    /// A store that gives what another one [kept](Self::finish) for the same program; without that, all is made anew.
    pub fn new(given: Option<Vec<Values>>) -> Store {
        Store { given: given.map(Vec::into_iter), kept: Vec::new() }
    }

    /// Whether nothing need be made.
    pub fn is_given(&self) -> bool {
        self.given.is_some()
    }

    /// What comes next, if it is given: else it is to be made.
    pub fn next(&mut self) -> Result<Option<Values>, EngineError> {
        let Some(given) = &mut self.given else { return Ok(None) };
        let next = given.next();
        next.map(Some).ok_or_else(|| EngineError::Plan("there are too few packed weights".into()))
    }

    /// Keeps what was made or given.
    pub fn keep(&mut self, values: &Values) {
        self.kept.push(values.clone());
    }

    /// All that was kept.
    pub fn finish(self) -> Result<Vec<Values>, EngineError> {
        match self.given.map_or(0, |rest| rest.len()) {
            0 => Ok(self.kept),
            more => Err(EngineError::Plan(format!("there are {more} packed weights more than steps use"))),
        }
    }
}
