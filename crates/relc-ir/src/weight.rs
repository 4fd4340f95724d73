//! Weights: the model's constants, by name.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::types::TensorType;

/// Values that are shared, never changed, and may lie in memory of any owner, such as a file that is mapped.
#[derive(Clone)]
pub struct Values(Held);

#[derive(Clone)]
enum Held {
    /// Whole f32, aligned for them, in the machine's order of bytes.
    Bytes(Bytes),
    Later(Arc<Later>),
}

/// Values that are made when they are first read.
struct Later {
    len: usize,
    make: Box<dyn Fn() -> Vec<f32> + Send + Sync>,
    made: OnceLock<Vec<f32>>,
}

impl Values {
    /// The values of an owner, without a copy.
    pub fn from_owner(owner: impl AsRef<[f32]> + Send + 'static) -> Values {
        Values(Held::Bytes(Bytes::from_owner(Floats(owner))))
    }

    /// So many values that are made when they are first read, and stay: those of an owner who has them in another form.
    /// Nothing that makes them may wait for another thread, which may wait for them.
    ///
    /// ```
    /// let values = relc_ir::Values::later(2, || vec![1.0, 2.0]);
    /// assert_eq!((values.len(), values.is_made()), (2, false));
    /// assert_eq!((values[1], values.is_made()), (2.0, true));
    /// ```
    pub fn later(len: usize, make: impl Fn() -> Vec<f32> + Send + Sync + 'static) -> Values {
        Values(Held::Later(Arc::new(Later { len, make: Box::new(make), made: OnceLock::new() })))
    }

    /// Whether they lie in memory; else they are made when they are read.
    pub fn is_made(&self) -> bool {
        match &self.0 {
            Held::Bytes(_) => true,
            Held::Later(later) => later.made.get().is_some(),
        }
    }

    /// How many they are. Makes none.
    pub fn len(&self) -> usize {
        match &self.0 {
            Held::Bytes(bytes) => bytes.len() / size_of::<f32>(),
            Held::Later(later) => later.len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Little-endian values, without a copy where they are aligned and the machine is little-endian; none if the bytes
    /// are no multiple of four.
    pub fn from_le_bytes(bytes: Bytes) -> Option<Values> {
        if cfg!(target_endian = "little") && bytemuck::try_cast_slice::<u8, f32>(&bytes).is_ok() {
            return Some(Values(Held::Bytes(bytes)));
        }
        let (values, []) = bytes.as_chunks::<4>() else { return None };
        Some(values.iter().map(|value| f32::from_le_bytes(*value)).collect())
    }
}

impl Default for Values {
    fn default() -> Values {
        Values(Held::Bytes(Bytes::new()))
    }
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.0 {
            // Never fails, by what the field is.
            Held::Bytes(bytes) => bytemuck::try_cast_slice(bytes).unwrap_or(&[]),
            Held::Later(later) => later.made.get_or_init(&later.make),
        }
    }
}

/// An owner of floats, as an owner of bytes.
struct Floats<T>(T);

impl<T: AsRef<[f32]>> AsRef<[u8]> for Floats<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(self.0.as_ref())
    }
}

impl From<Vec<f32>> for Values {
    fn from(values: Vec<f32>) -> Values {
        Values::from_owner(values)
    }
}

impl From<Arc<[f32]>> for Values {
    fn from(values: Arc<[f32]>) -> Values {
        Values::from_owner(values)
    }
}

impl<const N: usize> From<[f32; N]> for Values {
    fn from(values: [f32; N]) -> Values {
        values.to_vec().into()
    }
}

impl FromIterator<f32> for Values {
    fn from_iter<I: IntoIterator<Item = f32>>(values: I) -> Values {
        values.into_iter().collect::<Vec<f32>>().into()
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deref().fmt(f)
    }
}

/// A constant tensor of the model.
///
/// A graph that was parsed from text has no bytes for its weights, only their names, types and hashes; passes
/// that only look at structure run on it all the same.
#[derive(Clone)]
pub struct Weight {
    name: String,
    ty: TensorType,
    data: Option<Values>,
    hash: u64,
}

impl Weight {
    /// A weight with its values, row-major.
    ///
    /// # Errors
    /// If the number of values is not the number of elements of `ty`, or `ty` is batched or malformed.
    pub fn new(name: impl Into<String>, ty: TensorType, data: impl Into<Values>) -> Result<Self, String> {
        let (name, data) = (name.into(), data.into());
        ty.check().map_err(|e| format!("weight \"{name}\": {e}"))?;
        if ty.is_batched() || ty.elements() != Some(data.len()) {
            return Err(format!("weight \"{name}\": got {} values, expected those of {ty}", data.len()));
        }
        Ok(Weight { name, ty, hash: content_hash(&data, f32::to_le_bytes), data: Some(data) })
    }

    /// The weight with its values, if it has none: those whose [hash](Self::hash) it has.
    ///
    /// # Errors
    /// If the number of values is not that of its type.
    pub fn with_data(self, data: Values) -> Result<Self, String> {
        if self.ty.elements() != Some(data.len()) {
            return Err(format!(
                "weight \"{}\": got {} values, expected those of {}",
                self.name,
                data.len(),
                self.ty
            ));
        }
        Ok(Weight { data: Some(data), ..self })
    }

    /// Takes the values of the same weight among others, where they may lie elsewhere.
    pub fn relocate(&mut self, others: &[Weight]) {
        if let Some(same) = others.iter().find(|other| *other == self) {
            self.data.clone_from(&same.data);
        }
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
    pub fn data(&self) -> Option<&Values> {
        self.data.as_ref()
    }

    /// xxh3-64 of the little-endian bytes.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// xxh3-64 of the little-endian bytes of numbers, a block at a time.
pub fn content_hash<T: Copy, const N: usize>(data: &[T], to_le_bytes: impl Fn(T) -> [u8; N]) -> u64 {
    const BLOCK: usize = 1024;
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    let mut bytes = [[0; N]; BLOCK];
    for block in data.chunks(BLOCK) {
        for (bytes, value) in bytes.iter_mut().zip(block) {
            *bytes = to_le_bytes(*value);
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
