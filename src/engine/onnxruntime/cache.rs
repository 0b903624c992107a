//! Caches of keys and values.
//!
//! A graph whose attention writes in place is given one buffer as past and as present, as long as the context. Any other
//! graph gives all of its past anew after every evaluation, one token longer; that is the next one's past.

use super::layout::CachePort;
use crate::engine::ContextShape;
use half::slice::HalfFloatSliceExt as _;
use ort::memory::Allocator;
use ort::session::{IoBinding, Session};
use ort::value::{DynTensor, DynValue, TensorElementType};
use std::sync::Arc;

/// The cache of a sequence that is copied; copies of it cost nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Copied {
    pub(super) length: usize,
    /// One for each cache of the graph; `None`: nothing was read.
    pub(super) values: Option<Arc<Vec<DynValue>>>,
}

/// The cache of the only sequence of a context.
#[derive(Debug)]
pub(super) struct InPlace {
    pub(super) length: usize,
    capacity: usize,
    /// One for each cache of the graph.
    buffers: Vec<DynTensor>,
    /// Has the buffers as inputs and outputs.
    pub(super) binding: IoBinding,
}

/// The caches of a context.
#[derive(Debug)]
pub(super) enum Caches {
    InPlace(Box<InPlace>),
    Copied(Vec<Copied>),
}

impl InPlace {
    /// # Errors
    /// There is no memory for it.
    pub(super) fn new(
        session: &Session,
        ports: &[CachePort],
        shape: ContextShape,
    ) -> ort::Result<Self> {
        let capacity = shape.tokens as usize;
        let mut binding = session.create_binding()?;
        let mut buffers = Vec::with_capacity(ports.len());
        for port in ports {
            let mut buffer = empty(port, capacity)?;
            // What is not written yet is not read either, but is copied where states are.
            fill(&mut buffer, port, |bytes| bytes.fill(0))?;
            binding.bind_input(port.past.as_str(), &buffer)?;
            binding.bind_output(port.present.as_str(), &mut buffer)?;
            buffers.push(buffer);
        }
        Ok(Self { length: 0, capacity, buffers, binding })
    }

    /// Adds the bytes of the tokens that it has.
    pub(super) fn save(&self, ports: &[CachePort], state: &mut Vec<u8>) -> ort::Result<()> {
        for (buffer, port) in self.buffers.iter().zip(ports) {
            let (whole, used) = self.row_bytes(port);
            let bytes = bytes_of(buffer, port)?;
            bytes.chunks(whole.max(1)).for_each(|head| state.extend_from_slice(&head[..used]));
        }
        Ok(())
    }

    /// Takes the bytes of so many tokens; `None` if they are not as many.
    pub(super) fn restore(
        &mut self,
        ports: &[CachePort],
        length: usize,
        state: &[u8],
    ) -> ort::Result<Option<()>> {
        if length > self.capacity || bytes_in(ports, length) != Some(state.len()) {
            return Ok(None);
        }
        self.length = length;
        let sizes: Vec<(usize, usize)> = ports.iter().map(|port| self.row_bytes(port)).collect();
        let mut rest = state;
        for ((buffer, port), (whole, used)) in self.buffers.iter_mut().zip(ports).zip(sizes) {
            fill(buffer, port, |bytes| {
                for head in bytes.chunks_mut(whole.max(1)) {
                    let (own, after) = rest.split_at(used);
                    head[..used].copy_from_slice(own);
                    rest = after;
                }
            })?;
        }
        Ok(Some(()))
    }

    /// Bytes of a head, and those of them that are used.
    fn row_bytes(&self, port: &CachePort) -> (usize, usize) {
        let each = port.width * size_of_kind(port.kind);
        (self.capacity * each, self.length * each)
    }
}

impl Copied {
    /// Adds the bytes of the tokens that it has.
    pub(super) fn save(&self, ports: &[CachePort], state: &mut Vec<u8>) -> ort::Result<()> {
        for (value, port) in self.values.iter().flat_map(|it| it.iter()).zip(ports) {
            state.extend_from_slice(bytes_of(value, port)?);
        }
        Ok(())
    }

    /// Takes the bytes of so many tokens; `None` if they are not as many.
    pub(super) fn restored(
        ports: &[CachePort],
        length: usize,
        state: &[u8],
    ) -> ort::Result<Option<Self>> {
        if bytes_in(ports, length) != Some(state.len()) {
            return Ok(None);
        }
        let (mut rest, mut values) = (state, Vec::with_capacity(ports.len()));
        for port in ports {
            let (own, after) =
                rest.split_at(port.heads * port.width * length * size_of_kind(port.kind));
            let mut value = empty(port, length)?;
            fill(&mut value, port, |bytes| bytes.copy_from_slice(own))?;
            values.push(value.into_dyn());
            rest = after;
        }
        Ok(Some(Self { length, values: (length > 0).then(|| Arc::new(values)) }))
    }
}

/// A cache of so many tokens, not written yet.
pub(super) fn empty(port: &CachePort, tokens: usize) -> ort::Result<DynTensor> {
    let shape = [1, port.heads, tokens, port.width];
    DynTensor::new(&Allocator::default(), port.kind, shape)
}

/// Bytes of so many tokens in all caches; `None` if there are more than can be.
pub(super) fn bytes_in(ports: &[CachePort], length: usize) -> Option<usize> {
    ports.iter().try_fold(0_usize, |sum, port| {
        let each = port.heads.checked_mul(port.width)?.checked_mul(size_of_kind(port.kind))?;
        sum.checked_add(each.checked_mul(length)?)
    })
}

fn size_of_kind(kind: TensorElementType) -> usize {
    if kind == TensorElementType::Float16 { 2 } else { 4 }
}

fn bytes_of<'v>(
    value: &'v ort::value::Value<impl ort::value::TensorValueTypeMarker + ?Sized>,
    port: &CachePort,
) -> ort::Result<&'v [u8]> {
    Ok(if port.kind == TensorElementType::Float16 {
        bytemuck::cast_slice(value.try_extract_tensor::<half::f16>()?.1.reinterpret_cast())
    } else {
        bytemuck::cast_slice(value.try_extract_tensor::<f32>()?.1)
    })
}

/// Has the bytes of a cache written.
fn fill(value: &mut DynTensor, port: &CachePort, write: impl FnOnce(&mut [u8])) -> ort::Result<()> {
    if port.kind == TensorElementType::Float16 {
        let numbers = value.try_extract_tensor_mut::<half::f16>()?.1.reinterpret_cast_mut();
        write(bytemuck::cast_slice_mut(numbers));
    } else {
        write(bytemuck::cast_slice_mut(value.try_extract_tensor_mut::<f32>()?.1));
    }
    Ok(())
}
