//! The kernel IR and its compilation by Cranelift.
//!
//! A compiled model is a list of kernels over flat buffers. A kernel is data: loop nests with static bounds and affine
//! indices ([`kir`]), made by a lowering ([`kernels`], or any code that uses [`kir::KernelBuilder`]), printed, read
//! back, and *verified*: every access of every iteration is proved to lie in its buffer. Only verified kernels are
//! compiled ([`jit`]), which is why [`jit::CompiledFn::call`] is safe. The interpreter ([`interp`]) runs the same
//! kernels slowly and is the oracle: compiled code agrees with it to the bit.
//!
//! Cranelift's vectors have four lanes of f32, which is the whole register on some machines and a quarter of it on
//! others. So the one loop that decides the speed, the convolution's tile, is no kernel of this kind: `relc-cpu` has
//! it in intrinsics.
//!
//! ```
//! use relc_codegen::jit::{Binding, Target, compile};
//! use relc_codegen::kernels::sum_relu;
//! use relc_program::layout::{Blocked, Halo};
//!
//! let layout = Blocked::new(8, 8, 2, 3, Halo::NONE)?;
//! let kernel = sum_relu("add", &[layout; 2], layout, true);
//! let compiled = compile(&[kernel], &Target::host()?)?;
//! let add = compiled.get(0).ok_or("one kernel was compiled")?;
//!
//! let (a, b, mut y) = (vec![1.0; 48], vec![-3.0; 48], vec![f32::NAN; 48]);
//! add.call(&mut [Binding::Read(&a), Binding::Read(&b), Binding::Write(&mut y)], 0..add.tasks())?;
//! assert_eq!(y, vec![0.0; 48]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Unsafe code is in three places: freeing the memory of code (`jit/memory.rs`), vouching for what was compiled
//! (`jit/mod.rs`), and for what was compiled ahead of time and linked into the program (`jit/linked.rs`).
//!
//! **Invariant:** nothing here knows of graphs, steps or rules: of a program, kernels know the
//! [layout](relc_program::layout) of tensors.

pub mod interp;
pub mod jit;
pub mod kernels;
pub mod kir;
