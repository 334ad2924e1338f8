//! Makes buffers of frames: copies them, or converts them to the format that downstream needs.

use super::{
    negotiation::{OutputMode, video_format},
    yuyv_to_i420,
};
use crate::camera::{Error, Frame};
use gst::prelude::*;
use gst_video::{VideoConverter, VideoFormat, VideoFrameRef, VideoInfo, prelude::*};

/// Why a frame can't be made into a buffer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConvertError {
    #[error(transparent)]
    Camera(#[from] Error),
    #[error("a frame of {received} arrived instead of {expected}")]
    Unexpected { received: String, expected: String },
    #[error(transparent)]
    Gst(#[from] gst::glib::BoolError),
    #[error("{0}")]
    Flow(#[from] gst::FlowError),
}

/// Makes the buffers of one stream. Each buffer is a copy, because the camera has few frames and downstream may hold
/// buffers for long.
#[derive(Debug)]
pub(super) struct FrameConverter {
    native: VideoFormat,
    out: VideoInfo,
    pool: gst::BufferPool,
    /// The converter, and the stride of its input in bytes.
    converter: Option<(usize, VideoConverter)>,
}

/// The bytes of a frame as GStreamer memory, during a conversion.
struct Bytes(Frame);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        // GStreamer refuses memory that is too small, such as an empty one.
        self.0.data().unwrap_or_default()
    }
}

impl FrameConverter {
    /// Creates a converter from frames of this mode to the format of `caps`.
    pub(super) fn new(output: &OutputMode, caps: &gst::Caps) -> Result<Self, gst::glib::BoolError> {
        let out = VideoInfo::from_caps(caps)?;
        let pool = gst_video::VideoBufferPool::new();
        let mut config = pool.config();
        config.set_params(Some(caps), u32::try_from(out.size()).unwrap_or(u32::MAX), 2, 0);
        pool.set_config(config)?;
        pool.set_active(true)?;
        Ok(Self { native: output.native, out, pool: pool.upcast(), converter: None })
    }

    /// The time between two frames.
    pub(super) fn duration(&self) -> Option<gst::ClockTime> {
        let (numerator, denominator) = (self.out.fps().numer(), self.out.fps().denom());
        gst::ClockTime::SECOND.mul_div_floor(
            u64::try_from(denominator).ok()?,
            u64::try_from(numerator).ok().filter(|n| *n > 0)?,
        )
    }

    /// Makes the buffer of a frame.
    pub(super) fn make(&mut self, frame: &Frame) -> Result<gst::Buffer, ConvertError> {
        let mode = frame.mode()?;
        let unexpected = |received: String| ConvertError::Unexpected {
            received,
            expected: format!("{} {}x{}", self.native, self.out.width(), self.out.height()),
        };
        let mode = mode.ok_or_else(|| unexpected("an unknown kind".to_owned()))?;
        let as_expected = video_format(mode.format) == Some(self.native)
            && (mode.width, mode.height) == (self.out.width(), self.out.height());
        if !as_expected {
            return Err(unexpected(format!("{:?} {}x{}", mode.format, mode.width, mode.height)));
        }
        let stride = frame.stride()?;
        let row = mode.width as usize * mode.format.bytes();
        let data = frame.data()?;
        if stride < row || data.len() < stride * (mode.height as usize).saturating_sub(1) + row {
            return Err(unexpected(format!("{} bytes in rows of {stride}", data.len())));
        }
        let mut buffer = self.pool.acquire_buffer(None)?;
        let target = buffer.get_mut().ok_or(gst::FlowError::Error)?;
        if self.native == self.out.format() {
            self.copy(data, stride, row, target)?;
        } else if yuyv_to_i420::supports(self.native, &self.out) {
            let mut target = VideoFrameRef::from_buffer_ref_writable(target, &self.out)?;
            yuyv_to_i420::convert(data, stride, &mut target);
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
    ) -> Result<(), ConvertError> {
        let mut target = VideoFrameRef::from_buffer_ref_writable(target, &self.out)?;
        let target_stride = usize::try_from(target.plane_stride().first().copied().unwrap_or(0)).unwrap_or(0);
        let plane = target.plane_data_mut(0)?;
        if stride == target_stride && data.len() <= plane.len() {
            plane[..data.len()].copy_from_slice(data);
            return Ok(());
        }
        // The strides are at least 1, because `chunks` panics at 0.
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
    ) -> Result<(), ConvertError> {
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
        // From YUV to YUV the colors stay the same, whatever GStreamer's default for the size is.
        let same = self.out.colorimetry();
        let camera = CAMERA_COLORS.parse::<gst_video::VideoColorimetry>()?;
        if is_yuv(self.native) {
            source = source.colorimetry(if is_yuv(self.out.format()) { &same } else { &camera });
        }
        VideoConverter::new(&source.build()?, &self.out, None)
    }
}

impl Drop for FrameConverter {
    fn drop(&mut self) {
        // Buffers that downstream still holds are freed when they are released.
        let _ = self.pool.set_active(false);
    }
}

/// The color matrix of RealSense cameras, at every size.
const CAMERA_COLORS: &str = "bt601";

/// Adds the camera's colorimetry to `caps`, if the formats are YUV and downstream accepts it.
pub(super) fn with_colors(
    caps: gst::Caps,
    output: &OutputMode,
    format: VideoFormat,
    accepted: &gst::Caps,
) -> gst::Caps {
    let mut named = caps.clone();
    if is_yuv(output.native) && is_yuv(format) {
        named.make_mut().set("colorimetry", CAMERA_COLORS);
    }
    if accepted.can_intersect(&named) { named } else { caps }
}

fn is_yuv(format: VideoFormat) -> bool {
    gst_video::VideoFormatInfo::from_format(format).is_yuv()
}
