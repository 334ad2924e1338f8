//! Frames to buffers: copied as they are, or converted where downstream wants another format.

use super::{
    offer::{Mode, video_format},
    repack,
};
use crate::camera::{Error, Frame};
use gst::prelude::*;
use gst_video::{VideoConverter, VideoFormat, VideoFrameRef, VideoInfo, prelude::*};

/// Why no buffer comes of a frame.
#[derive(Debug, thiserror::Error)]
pub(super) enum PictureError {
    #[error(transparent)]
    Camera(#[from] Error),
    #[error("a frame of {came} came where {expected} was expected")]
    Unexpected { came: String, expected: String },
    #[error(transparent)]
    Gst(#[from] gst::glib::BoolError),
    #[error("{0}")]
    Flow(#[from] gst::FlowError),
}

/// Makes the buffers of one stream. What goes out is a copy, so that who holds buffers never takes frames away from the
/// camera.
#[derive(Debug)]
pub(super) struct Picture {
    native: VideoFormat,
    out: VideoInfo,
    pool: gst::BufferPool,
    /// For frames with rows this long.
    converter: Option<(usize, VideoConverter)>,
}

/// The bytes of a frame as memory of GStreamer, for the time of a conversion.
struct Bytes(Frame);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        // Empty is refused by the check of the size that follows.
        self.0.data().unwrap_or_default()
    }
}

impl Picture {
    /// For frames of this mode, in the format of `caps`.
    pub(super) fn new(mode: &Mode, caps: &gst::Caps) -> Result<Self, gst::glib::BoolError> {
        let out = VideoInfo::from_caps(caps)?;
        let pool = gst_video::VideoBufferPool::new();
        let mut config = pool.config();
        config.set_params(Some(caps), u32::try_from(out.size()).unwrap_or(u32::MAX), 2, 0);
        pool.set_config(config)?;
        pool.set_active(true)?;
        Ok(Self { native: mode.native, out, pool: pool.upcast(), converter: None })
    }

    /// Time from one to the next.
    pub(super) fn duration(&self) -> Option<gst::ClockTime> {
        let (numerator, denominator) = (self.out.fps().numer(), self.out.fps().denom());
        gst::ClockTime::SECOND.mul_div_floor(
            u64::try_from(denominator).ok()?,
            u64::try_from(numerator).ok().filter(|n| *n > 0)?,
        )
    }

    /// The frame as a buffer.
    pub(super) fn make(&mut self, frame: &Frame) -> Result<gst::Buffer, PictureError> {
        let shape = frame.shape()?;
        let unexpected = |came: String| PictureError::Unexpected {
            came,
            expected: format!("{} {}x{}", self.native, self.out.width(), self.out.height()),
        };
        let shape = shape.ok_or_else(|| unexpected("an unknown kind".to_owned()))?;
        let as_expected = video_format(shape.format) == Some(self.native)
            && (shape.width, shape.height) == (self.out.width(), self.out.height());
        if !as_expected {
            return Err(unexpected(format!("{:?} {}x{}", shape.format, shape.width, shape.height)));
        }
        let stride = frame.stride()?;
        let row = shape.width as usize * shape.format.bytes();
        let data = frame.data()?;
        if stride < row || data.len() < stride * (shape.height as usize).saturating_sub(1) + row {
            return Err(unexpected(format!("{} bytes in rows of {stride}", data.len())));
        }
        let mut buffer = self.pool.acquire_buffer(None)?;
        let target = buffer.get_mut().ok_or(gst::FlowError::Error)?;
        if self.native == self.out.format() {
            self.copy(data, stride, row, target)?;
        } else if repack::does(self.native, &self.out) {
            let mut target = VideoFrameRef::from_buffer_ref_writable(target, &self.out)?;
            repack::yuyv_to_i420(data, stride, &mut target);
        } else {
            self.convert(frame, stride, target)?;
        }
        Ok(buffer)
    }

    fn copy(
        &self,
        data: &[u8],
        stride: usize,
        row: usize,
        target: &mut gst::BufferRef,
    ) -> Result<(), PictureError> {
        let mut target = VideoFrameRef::from_buffer_ref_writable(target, &self.out)?;
        let target_stride = usize::try_from(target.plane_stride().first().copied().unwrap_or(0)).unwrap_or(0);
        let plane = target.plane_data_mut(0)?;
        if stride == target_stride && data.len() <= plane.len() {
            plane[..data.len()].copy_from_slice(data);
            return Ok(());
        }
        // chunks() refuses 0.
        for (from, to) in data.chunks(stride.max(1)).zip(plane.chunks_mut(target_stride.max(1))) {
            if let (Some(from), Some(to)) = (from.get(..row), to.get_mut(..row)) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }

    fn convert(
        &mut self,
        frame: &Frame,
        stride: usize,
        target: &mut gst::BufferRef,
    ) -> Result<(), PictureError> {
        if self.converter.as_ref().is_none_or(|(known, _)| *known != stride) {
            self.converter = Some((stride, self.new_converter(stride)?));
        }
        let Some((_, converter)) = &self.converter else { return Ok(()) };
        let source = gst::Buffer::from_slice(Bytes(frame.share()?));
        let source = VideoFrameRef::from_buffer_ref_readable(&source, converter.in_info())?;
        let mut target = VideoFrameRef::from_buffer_ref_writable(target, &self.out)?;
        converter.frame_ref(&source, &mut target);
        Ok(())
    }

    fn new_converter(&self, stride: usize) -> Result<VideoConverter, gst::glib::BoolError> {
        let stride = i32::try_from(stride).map_err(|_| gst::glib::bool_error!("rows of {stride} bytes"))?;
        let (strides, offsets) = ([stride], [0]);
        let mut source = VideoInfo::builder(self.native, self.out.width(), self.out.height())
            .fps(self.out.fps())
            .stride(&strides)
            .offset(&offsets);
        // YUV to YUV means the same colors, whatever GStreamer takes for usual at this size.
        let same = self.out.colorimetry();
        let cameras = CAMERA_COLORS.parse::<gst_video::VideoColorimetry>()?;
        if is_yuv(self.native) {
            source = source.colorimetry(if is_yuv(self.out.format()) { &same } else { &cameras });
        }
        VideoConverter::new(&source.build()?, &self.out, None)
    }
}

impl Drop for Picture {
    fn drop(&mut self) {
        // Buffers that are still out are freed when they come back.
        let _ = self.pool.set_active(false);
    }
}

/// The matrix that RealSense cameras use, at every size.
const CAMERA_COLORS: &str = "bt601";

/// `caps` with the camera's colors named, where there are some to name and downstream doesn't mind.
pub(super) fn with_colors(
    caps: gst::Caps,
    mode: &Mode,
    format: VideoFormat,
    accepted: &gst::Caps,
) -> gst::Caps {
    let mut named = caps.clone();
    if is_yuv(mode.native) && is_yuv(format) {
        named.make_mut().set("colorimetry", CAMERA_COLORS);
    }
    if accepted.can_intersect(&named) { named } else { caps }
}

fn is_yuv(format: VideoFormat) -> bool {
    gst_video::VideoFormatInfo::from_format(format).is_yuv()
}
