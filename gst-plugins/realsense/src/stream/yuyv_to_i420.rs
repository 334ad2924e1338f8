//! YUYV to I420, from the usual format of cameras to the usual format of encoders.
//! The result is identical to that of GStreamer's converter, in two thirds of its time. The conversion is limited by
//! memory bandwidth, because a frame has left the CPU caches by now. Therefore plain loops, which the compiler
//! vectorizes, suffice.

use gst_video::{VideoFormat, VideoFrameExt, VideoFrameRef, VideoInfo};

/// Whether [`convert`] supports these formats.
pub(super) fn supports(native: VideoFormat, out: &VideoInfo) -> bool {
    let even = out.width().is_multiple_of(2) && out.height().is_multiple_of(2);
    (native, out.format(), even) == (VideoFormat::Yuy2, VideoFormat::I420, true)
}

/// Converts `source`, whose rows are `stride` bytes long. The last row may end with its pixels.
pub(super) fn convert(source: &[u8], stride: usize, target: &mut VideoFrameRef<&mut gst::BufferRef>) {
    let width = target.width() as usize;
    let strides = [0, 1, 2].map(|plane| usize::try_from(target.plane_stride()[plane]).unwrap_or(0).max(1));
    let [luma, u, v, _] = target.planes_data_mut();
    let chroma = u.chunks_mut(strides[1]).zip(v.chunks_mut(strides[2]));
    // Two lines at a time, because they share their chroma.
    let pairs = source.chunks(2 * stride.max(1)).zip(luma.chunks_mut(2 * strides[0]));
    let mut mean = vec![0; width];
    for ((source, luma), (u, v)) in pairs.zip(chroma) {
        let (Some((top, bottom)), Some((over, under))) =
            (source.split_at_checked(stride), luma.split_at_mut_checked(strides[0]))
        else {
            return;
        };
        first_of_two(top, &mut over[..width]);
        first_of_two(bottom, &mut under[..width]);
        mean_of_second(top, bottom, &mut mean);
        first_of_two(&mean, &mut u[..width / 2]);
        second_of_two(&mean, &mut v[..width / 2]);
    }
}

// The loops work on words of two bytes, which the compiler vectorizes. It does not vectorize loops on single bytes.

fn first_of_two(from: &[u8], to: &mut [u8]) {
    for (to, two) in to.iter_mut().zip(from.as_chunks().0) {
        *to = low(u16::from_le_bytes(*two));
    }
}

fn second_of_two(from: &[u8], to: &mut [u8]) {
    for (to, two) in to.iter_mut().zip(from.as_chunks().0) {
        *to = low(u16::from_le_bytes(*two) >> 8);
    }
}

/// The mean of two lines, rounded up.
fn mean_of_second(top: &[u8], bottom: &[u8], to: &mut [u8]) {
    for ((to, top), bottom) in to.iter_mut().zip(top.as_chunks().0).zip(bottom.as_chunks().0) {
        *to = low(((u16::from_le_bytes(*top) >> 8) + (u16::from_le_bytes(*bottom) >> 8) + 1) >> 1);
    }
}

fn low(word: u16) -> u8 {
    u8::try_from(word & 0xff).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gst_video::VideoConverter;

    // Rows without padding in I420, and no multiple of a vector.
    const WIDTH: u32 = 72;
    const HEIGHT: u32 = 6;
    const ROW: usize = 2 * WIDTH as usize;

    #[test]
    fn the_result_is_identical_to_that_of_gstreamers_converter() {
        gst::init().unwrap();
        let out = VideoInfo::builder(VideoFormat::I420, WIDTH, HEIGHT).build().unwrap();
        let native = VideoInfo::builder(VideoFormat::Yuy2, WIDTH, HEIGHT).build().unwrap();
        assert!(supports(native.format(), &out));
        let pixels: Vec<u8> =
            (0..ROW * HEIGHT as usize).map(|n| (n * n / 7 + n * 31).to_le_bytes()[0]).collect();

        let mut expected = gst::Buffer::with_size(out.size()).unwrap();
        let mut expected = VideoFrameRef::from_buffer_ref_writable(expected.make_mut(), &out).unwrap();
        let source = gst::Buffer::from_slice(pixels.clone());
        let source = VideoFrameRef::from_buffer_ref_readable(&source, &native).unwrap();
        VideoConverter::new(&native, &out, None).unwrap().frame_ref(&source, &mut expected);

        let mut padded: Vec<u8> = pixels.chunks(ROW).flat_map(|row| [row, &[9; 12]].concat()).collect();
        padded.truncate(padded.len() - 12);
        for (source, stride) in [(pixels, ROW), (padded, ROW + 12)] {
            let mut made = gst::Buffer::with_size(out.size()).unwrap();
            let mut made = VideoFrameRef::from_buffer_ref_writable(made.make_mut(), &out).unwrap();
            convert(&source, stride, &mut made);
            assert_eq!(made.planes_data(), expected.planes_data());
        }
    }

    #[test]
    fn odd_sizes_are_left_to_the_converter() {
        gst::init().unwrap();
        let supports = |width, height| {
            supports(
                VideoFormat::Yuy2,
                &VideoInfo::builder(VideoFormat::I420, width, height).build().unwrap(),
            )
        };
        assert!(supports(640, 480) && !supports(641, 480) && !supports(640, 479));
    }
}
