//! The reference executor, generic over f32 and f64.
