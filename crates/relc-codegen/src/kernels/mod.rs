//! Lowerings of the operations around the convolutions, one function per kernel.
//!
//! Activations and relevance are [blocked](relc_program::layout::Blocked). Kernels read and write the interior of a
//! tensor, and keep the channels beyond the last at zero where they are zero in the input; the halo belongs to whoever
//! plans the buffer. Buffers come in the order of the parameters.

mod average;
mod elementwise;
mod layout;
mod pool;
mod quotient;
mod window;
mod zero;

pub use average::{Average, average_pool};
pub use elementwise::{Operand, elementwise, multiply, ratio_split, scale_shift, sum_relu};
pub use layout::{Addressed, Position, for_vectors};
pub use pool::{max_pool, max_pool_winner, pool_fits, winner_fits};
pub use quotient::{Condition, Denominator, LEDGER, QuotientPart, Stabiliser, Vanishing, quotients};
pub use window::{Axis, Segment};
