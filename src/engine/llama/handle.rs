//! Handles: native objects, and state that native code calls back with, freed when they are dropped.

use std::ptr::NonNull;

/// An object at a fixed address.
#[derive(Debug)]
pub(super) struct Handle<T> {
    pointer: NonNull<T>,
    free: unsafe extern "C" fn(*mut T),
}

impl<T> Handle<T> {
    /// Takes an object that native code made; `None` if it made none.
    ///
    /// # Safety
    /// `made` is null, or owned by nobody else and freed by `free`.
    pub(super) unsafe fn new(made: *mut T, free: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        NonNull::new(made).map(|pointer| Self { pointer, free })
    }

    /// Puts a value at a fixed address.
    pub(super) fn boxed(value: T) -> Self {
        Self { pointer: NonNull::from(Box::leak(Box::new(value))), free: free_box }
    }

    pub(super) fn as_ptr(&self) -> *mut T {
        self.pointer.as_ptr()
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        // SAFETY: `free` belongs to the object by the contract of `new`; it is called once.
        unsafe { (self.free)(self.pointer.as_ptr()) };
    }
}

unsafe extern "C" fn free_box<T>(pointer: *mut T) {
    // SAFETY: `boxed` leaked the box, and this is called once.
    drop(unsafe { Box::from_raw(pointer) });
}
