//! Weights: the model's constants, by name.

use std::fmt;
use std::sync::Arc;

use crate::types::TensorType;

/// A constant tensor of the model.
///
/// A graph that was parsed from text has no bytes for its weights, only their names, types and hashes; passes
/// that only look at structure run on it all the same.
#[derive(Clone)]
pub struct Weight {
    name: String,
    ty: TensorType,
    data: Option<Arc<[f32]>>,
    hash: u64,
}

impl Weight {
    /// A weight with its values, row-major.
    ///
    /// # Errors
    /// If the number of values is not the number of elements of `ty`, or `ty` is batched or malformed.
    pub fn new(name: impl Into<String>, ty: TensorType, data: impl Into<Arc<[f32]>>) -> Result<Self, String> {
        let (name, data) = (name.into(), data.into());
        ty.check().map_err(|e| format!("weight \"{name}\": {e}"))?;
        if ty.is_batched() || ty.elements() != Some(data.len()) {
            return Err(format!("weight \"{name}\": got {} values, expected those of {ty}", data.len()));
        }
        Ok(Weight { name, ty, hash: hash(&data), data: Some(data) })
    }

    /// A weight without its bytes, as a text names it.
    pub fn without_data(name: impl Into<String>, ty: TensorType, hash: u64) -> Self {
        Weight { name: name.into(), ty, data: None, hash }
    }

    /// The name, unique in a graph.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type; never batched.
    pub fn ty(&self) -> &TensorType {
        &self.ty
    }

    /// The values, row-major; `None` if the graph came from text.
    pub fn data(&self) -> Option<&Arc<[f32]>> {
        self.data.as_ref()
    }

    /// xxh3-64 of the little-endian bytes.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// xxh3-64 of the little-endian bytes, a block at a time.
fn hash(data: &[f32]) -> u64 {
    const BLOCK: usize = 1024;
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    let mut bytes = [[0; 4]; BLOCK];
    for block in data.chunks(BLOCK) {
        for (bytes, value) in bytes.iter_mut().zip(block) {
            *bytes = value.to_le_bytes();
        }
        hasher.update(bytes[..block.len()].as_flattened());
    }
    hasher.digest()
}

impl PartialEq for Weight {
    /// Names, types and content hashes; not whether the bytes are there.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.ty == other.ty && self.hash == other.hash
    }
}

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}: {} #{:016x}", self.name, self.ty, self.hash)
    }
}
