//! An owned value of each CPU.

use core::marker::PhantomData;
use core::ptr::NonNull;

use super::alloc::{Allocation, Error, PerCpuAllocator};
use super::source::ChunkSource;
use crate::arch::{self, IrqGuard};
use crate::gfp::Gfp;
use crate::id::CpuId;

/// A proof that who holds it stays on its CPU.
///
/// # Safety
/// As long as a value lives, what runs in its context does not move to another CPU, nor does the value.
pub unsafe trait OnThisCpu {}

// SAFETY: with interrupts off nothing takes the CPU away, and the guard is not `Send`.
unsafe impl OnThisCpu for IrqGuard {}

/// A `T` of each possible CPU (Linux: `T __percpu *`). Dropped, it drops them and gives the memory back.
///
/// All copies can be read from any CPU, so what a CPU changes in its own is atomic or locked; that costs nothing where a
/// relaxed load and store will do, as nobody else writes. With exclusive access the copies are plain data.
#[derive(Debug)]
pub struct PerCpuBox<'a, T, S: ChunkSource> {
    /// None only while it is being dropped.
    memory: Option<Allocation>,
    owner: &'a PerCpuAllocator<'a, S>,
    _owns: PhantomData<T>,
}

// SAFETY: owns its values, and the allocator may be shared.
unsafe impl<T: Send, S: ChunkSource + Sync> Send for PerCpuBox<'_, T, S> {}
// SAFETY: shared, it gives shared access to values from any CPU.
unsafe impl<T: Sync, S: ChunkSource + Sync> Sync for PerCpuBox<'_, T, S> {}

impl<'a, T, S: ChunkSource> PerCpuBox<'a, T, S> {
    /// A value for each possible CPU, which `make` makes. See [`PerCpuAllocator::alloc`] for context and cost.
    ///
    /// # Errors
    /// As there; also when a `T` is too large or aligned to more than a page.
    pub fn new(
        owner: &'a PerCpuAllocator<'a, S>,
        gfp: Gfp,
        mut make: impl FnMut(CpuId) -> T,
    ) -> Result<Self, Error> {
        let memory = owner.alloc(size_of::<T>().max(1), align_of::<T>(), gfp)?;
        for cpu in owner.cpus() {
            // SAFETY: new memory of that size and alignment for each CPU.
            unsafe { owner.copy_of(&memory, cpu).cast::<T>().write(make(cpu)) };
        }
        Ok(Self { memory: Some(memory), owner, _owns: PhantomData })
    }

    /// A CPU's value (Linux: `per_cpu_ptr`).
    ///
    /// # Panics
    /// When no such CPU is possible.
    #[inline]
    pub fn get(&self, cpu: CpuId) -> &T {
        // SAFETY: initialised by `new`; nobody has exclusive access while this is borrowed.
        unsafe { self.at(cpu).as_ref() }
    }

    /// This CPU's value, while the caller stays on it (Linux: `this_cpu_ptr`).
    #[inline]
    pub fn this_cpu<'s>(&'s self, _stays: &'s impl OnThisCpu) -> &'s T {
        self.get(arch::cpu_id())
    }

    /// Calls `f` with the value of each possible CPU (Linux: `for_each_possible_cpu`).
    pub fn for_each(&self, mut f: impl FnMut(CpuId, &T)) {
        self.owner.cpus().for_each(|cpu| f(cpu, self.get(cpu)));
    }

    /// A CPU's value, for who has all of them.
    ///
    /// # Panics
    /// When no such CPU is possible.
    pub fn get_mut(&mut self, cpu: CpuId) -> &mut T {
        // SAFETY: initialised by `new`, and nobody else has access.
        unsafe { self.at(cpu).as_mut() }
    }

    #[inline]
    fn at(&self, cpu: CpuId) -> NonNull<T> {
        let memory = self.memory.as_ref().expect("it is there until it is dropped");
        self.owner.copy_of(memory, cpu).cast()
    }
}

impl<T, S: ChunkSource> Drop for PerCpuBox<'_, T, S> {
    fn drop(&mut self) {
        if core::mem::needs_drop::<T>() {
            for cpu in self.owner.cpus() {
                // SAFETY: initialised by `new`, dropped once.
                unsafe { self.at(cpu).drop_in_place() };
            }
        }
        if let Some(memory) = self.memory.take() {
            // SAFETY: from this allocator; nobody has access any more.
            unsafe { self.owner.free(memory) };
        }
    }
}
