//! Projectors: what turns a picture into tokens of a language model (`libmtmd`'s mmproj files, a vision
//! encoder with the layers behind it).
//!
//! A picture goes through three steps that are timed apart: [`Projector::prepare`] cuts it into parts,
//! [`Projector::encode`] computes the embeddings that stand for it, [`Projector::read`] puts these
//! into a context, where text can follow them.

use super::context::{Context, flash_attention};
use super::handle::Handle;
use super::model::{Model, to_c_string};
use super::{ErrorText, log, shim};
use crate::dataset::picture::Picture;
use crate::engine::batch::Batch;
use crate::engine::error::EngineError;
use crate::engine::picture::{EncodedPicture, PictureExtent};
use crate::engine::{self, Context as _, Engine as _};
use crate::experiment::settings::Settings;
use llama_cpp_sys_2 as sys;
use std::path::Path;
use std::rc::{Rc, Weak};

/// A loaded projector, for one model.
#[derive(Debug)]
pub(super) struct Projector<'model> {
    /// Pictures know it weakly: none can be read once it is gone.
    handle: Rc<Handle<sys::mtmd_context>>,
    model: &'model Model,
    bytes: u64,
}

/// A picture in parts: embeddings to be computed, and the tokens that the model's authors put around
/// them.
#[derive(Debug)]
struct PreparedPicture {
    chunks: Handle<sys::mtmd_input_chunks>,
    width: u32,
    height: u32,
}

/// A picture and its embeddings, one list per part: empty for a part that is tokens.
#[derive(Debug)]
struct Content {
    projector: Weak<Handle<sys::mtmd_context>>,
    /// The model that it was encoded for; only compared.
    model: *const sys::llama_model,
    prepared: PreparedPicture,
    embeddings: Vec<Vec<f32>>,
}

impl PreparedPicture {
    fn len(&self) -> usize {
        // SAFETY: the chunks are alive.
        unsafe { sys::mtmd_input_chunks_size(self.chunks.as_ptr()) }
    }

    /// A part; `at` is below `len`.
    fn chunk(&self, at: usize) -> *const sys::mtmd_input_chunk {
        // SAFETY: the chunks are alive; libmtmd checks the index and gives null beyond it.
        unsafe { sys::mtmd_input_chunks_get(self.chunks.as_ptr(), at) }
    }

    /// Whether a part is tokens and not embeddings.
    fn is_text(&self, at: usize) -> bool {
        // SAFETY: a part of living chunks.
        unsafe { sys::mtmd_input_chunk_get_type(self.chunk(at)) == sys::MTMD_INPUT_CHUNK_TYPE_TEXT }
    }

    fn tokens_of(&self, at: usize) -> usize {
        // SAFETY: a part of living chunks.
        unsafe { sys::mtmd_input_chunk_get_n_tokens(self.chunk(at)) }
    }

    fn extent(&self) -> PictureExtent {
        let tokens = (0..self.len()).map(|at| self.tokens_of(at));
        PictureExtent { tokens: tokens.clone().sum(), longest_part: tokens.max().unwrap_or(0) }
    }

    fn failed(&self, action: &'static str, reason: String) -> EngineError {
        EngineError::Picture { action, width: self.width, height: self.height, reason }
    }
}

impl<'model> Projector<'model> {
    /// Loads the projector in `path` for `model`, and encodes one picture to warm up.
    ///
    /// # Errors
    /// [`EngineError::Load`] with llama.cpp's last error lines: no such file, no projector, or one of
    /// another model.
    pub(super) fn load(
        model: &'model Model,
        path: &Path,
        settings: &Settings,
    ) -> Result<Self, EngineError> {
        let c_path = to_c_string(&path.to_string_lossy())?;
        let failed = |reason| EngineError::Load { path: path.to_owned(), reason };
        let parameters = parameters(model, settings);
        // SAFETY: the path is terminated; the parameters hold no pointers of ours.
        let bytes = unsafe { shim::quantbench_projector_bytes(c_path.as_ptr(), parameters) };
        log::forget_errors();
        // SAFETY: as above; the model is alive and borrowed for as long as the projector. Exceptions are
        // caught by libmtmd.
        let handle = unsafe {
            let made = sys::mtmd_init_from_file(c_path.as_ptr(), model.as_ptr(), parameters);
            Handle::new(made, sys::mtmd_free)
        };
        let handle = handle.ok_or_else(|| failed(log::take_errors()))?;
        let projector = Self { handle: Rc::new(handle), model, bytes };
        // SAFETY: the projector is alive.
        if unsafe { sys::mtmd_support_vision(projector.as_ptr()) } {
            Ok(projector)
        } else {
            Err(failed("it encodes sounds, not pictures".to_owned()))
        }
    }

    fn as_ptr(&self) -> *mut sys::mtmd_context {
        self.handle.as_ptr()
    }

    /// Scales and cuts a picture as the model was trained to see it; without pixels it cannot be encoded.
    fn cut(&self, width: u32, height: u32, rgb: *const u8) -> Result<PreparedPicture, EngineError> {
        let failed = |reason| EngineError::Picture { action: "prepare", width, height, reason };
        let memory = || failed("there is no memory for it".to_owned());
        log::forget_errors();
        // SAFETY: the pixels are null or as many as the size says, which the caller checked; libmtmd
        // copies them.
        let bitmap = unsafe {
            Handle::new(sys::mtmd_bitmap_init(width, height, rgb), sys::mtmd_bitmap_free)
        };
        let bitmap = bitmap.ok_or_else(memory)?;
        // SAFETY: returns an owned, empty list.
        let chunks =
            unsafe { Handle::new(sys::mtmd_input_chunks_init(), sys::mtmd_input_chunks_free) };
        let chunks = chunks.ok_or_else(memory)?;
        let part = sys::mtmd_input_part { text: std::ptr::null(), bitmap: bitmap.as_ptr() };
        let parts = [&raw const part];
        // SAFETY: projector, list, part and picture are alive for the length of the call; there is one
        // part. Exceptions are caught by libmtmd.
        let code = unsafe {
            sys::mtmd_tokenize_from_parts(
                self.as_ptr(),
                chunks.as_ptr(),
                parts.as_ptr().cast_mut(),
                parts.len(),
                false,
            )
        };
        if code == 0 {
            Ok(PreparedPicture { chunks, width, height })
        } else {
            Err(failed(log::take_errors()))
        }
    }
}

impl engine::Projector for Projector<'_> {
    /// As llama.cpp counts them; 0 if it does not tell.
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn reads_at_once(&self) -> bool {
        // SAFETY: the projector is alive; null stands for any picture.
        unsafe { sys::mtmd_decode_use_non_causal(self.as_ptr(), std::ptr::null()) }
    }

    fn measure(&self, width: u32, height: u32) -> Result<PictureExtent, EngineError> {
        Ok(self.cut(width, height, std::ptr::null())?.extent())
    }

    fn encode(&mut self, picture: &Picture) -> Result<EncodedPicture, EngineError> {
        let Picture { width, height, .. } = *picture;
        let pixels = u64::from(width) * u64::from(height);
        if picture.rgb.len() as u64 != 3 * pixels {
            let reason = format!("{} bytes are no picture of that size", picture.rgb.len());
            return Err(EngineError::Picture { action: "prepare", width, height, reason });
        }
        let prepared = self.cut(width, height, picture.rgb.as_ptr())?;
        let mut embeddings = Vec::with_capacity(prepared.len());
        for at in 0..prepared.len() {
            if prepared.is_text(at) {
                embeddings.push(Vec::new());
                continue;
            }
            log::forget_errors();
            // SAFETY: projector and part are alive. Exceptions are caught by libmtmd.
            let code = unsafe { sys::mtmd_encode_chunk(self.as_ptr(), prepared.chunk(at)) };
            if code != 0 {
                return Err(prepared.failed("encode", log::take_errors()));
            }
            let length = prepared.tokens_of(at) * self.model.width();
            // SAFETY: the projector is alive.
            let output = unsafe { sys::mtmd_get_output_embd(self.as_ptr()) };
            if output.is_null() {
                return Err(prepared.failed("encode", "there is no output".to_owned()));
            }
            // SAFETY: mtmd.h: the output of the last part has as many rows as the part has tokens,
            // each as wide as the model's input; it is copied before anything else is encoded.
            embeddings.push(unsafe { std::slice::from_raw_parts(output, length) }.to_vec());
        }
        let content = Content {
            projector: Rc::downgrade(&self.handle),
            model: self.model.as_ptr(),
            prepared,
            embeddings,
        };
        Ok(EncodedPicture { extent: content.prepared.extent(), content: Box::new(content) })
    }
}

/// Puts a picture into sequence 0 of a context, from `position` on; returns the position behind it,
/// which may be less far than its tokens are many.
pub(super) fn read(
    context: &mut Context<'_>,
    picture: &mut EncodedPicture,
    position: i32,
) -> Result<i32, EngineError> {
    let foreign = || EngineError::Unsupported("read a picture that was encoded for another model");
    let content: &mut Content = picture.content.downcast_mut().ok_or_else(foreign)?;
    if content.model != context.model().as_ptr().cast_const() {
        return Err(foreign());
    }
    let projector = content.projector.upgrade().ok_or_else(foreign)?;
    let Content { prepared, embeddings, .. } = content;
    let most = context.shape().batch.max(1);
    let mut position = position;
    for (at, embeddings) in embeddings.iter_mut().enumerate() {
        if prepared.is_text(at) {
            for part in text_of(prepared, at).chunks(most as usize) {
                context.decode(&mut Batch::of(part, position, false))?;
                position += i32::try_from(part.len()).unwrap_or(i32::MAX);
            }
            continue;
        }
        let mut next = position;
        // SAFETY: projector, context and part are alive, the embeddings are those of this part, the
        // error buffer has the length given and `next` outlives the call.
        let (code, error) = ErrorText::of(|text, length| unsafe {
            shim::quantbench_decode_picture(
                projector.as_ptr(),
                context.as_ptr(),
                prepared.chunk(at),
                embeddings.as_mut_ptr(),
                position,
                i32::try_from(most).unwrap_or(i32::MAX),
                &raw mut next,
                text,
                length,
            )
        });
        if code != 0 {
            return Err(prepared.failed("read", format!("{} (code {code})", error.reason())));
        }
        position = next;
    }
    Ok(position)
}

/// The tokens of a part that is text.
fn text_of(prepared: &PreparedPicture, at: usize) -> &[i32] {
    let mut count = 0;
    // SAFETY: a part of living chunks; the count outlives the call.
    let tokens =
        unsafe { sys::mtmd_input_chunk_get_tokens_text(prepared.chunk(at), &raw mut count) };
    if tokens.is_null() {
        return &[];
    }
    // SAFETY: so many tokens, which live as long as the chunks.
    unsafe { std::slice::from_raw_parts(tokens, count) }
}

fn parameters(model: &Model, settings: &Settings) -> sys::mtmd_context_params {
    // SAFETY: returns a plain struct.
    let mut parameters = unsafe { sys::mtmd_context_params_default() };
    let threads = settings.threads.unwrap_or_else(|| model.backend().default_threads());
    parameters.n_threads = i32::try_from(threads).unwrap_or(1);
    parameters.use_gpu = model.backend().uses_gpu(settings);
    parameters.print_timings = false;
    parameters.flash_attn_type = flash_attention(settings.flash_attention);
    parameters
}
