use proptest::prelude::*;
use relc_codegen::kernels::{pack, unpack, zero_halo};
use relc_codegen::kir::{Data, Symbols};

use crate::harness::{blocked, check, check_disjoint, from_written, to_blocked, unwritten};
use crate::{dense, halo, shape};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any vector, also one that is no multiple of 4.
    #[test]
    fn packing(dense in shape().prop_flat_map(dense), halo in halo(), vector in 1u32..17) {
        let layout = blocked(dense.shape, vector, halo);
        let buffers = [Data::F32(dense.data.clone()), unwritten(&layout)];
        let results = check(&pack("pack", layout), &Symbols::new(), &buffers);
        prop_assert_eq!(from_written(&results[1], &layout), dense);
    }

    #[test]
    fn unpacking(dense in shape().prop_flat_map(dense), halo in halo(), vector in 1u32..17) {
        let layout = blocked(dense.shape, vector, halo);
        let buffers = [to_blocked(&dense, &layout, f32::NAN), Data::F32(vec![f32::NAN; dense.data.len()])];
        let results = check(&unpack("unpack", layout), &Symbols::new(), &buffers);
        prop_assert_eq!(&results[1], &Data::F32(dense.data));
    }

    #[test]
    fn zeros_in_the_halo(dense in shape().prop_flat_map(dense), halo in halo(), vector in 1u32..17) {
        let layout = blocked(dense.shape, vector, halo);
        let results = check_disjoint(&zero_halo("zero", layout), &[to_blocked(&dense, &layout, f32::NAN)]);
        prop_assert_eq!(&results[0], &to_blocked(&dense, &layout, 0.0));
    }
}
