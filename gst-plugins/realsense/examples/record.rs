//! Creates a RealSense recording without a camera, for tests: `record FILE SERIAL COMPRESSED STREAM...`
//!
//! A stream is `color=yuyv:640x480@30`, `depth=z16:…`, `infrared1=y8:…`, `gyro=xyz@200` or `accel=xyz@100`. COMPRESSED
//! is `true` or `false`. The samples are read from stdin as bytes, in the order of their timestamps; samples with equal
//! timestamps are in the order of the streams. They are recorded in real time, because a player reproduces the arrival
//! times.

use std::{
    env,
    io::{self, ErrorKind, Read},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use gstrealsense::software::{Error, FrameInfo, Imager, Pixels, Recorder, SoftwareDevice, Stream};

/// The timestamp of the first sample.
const STARTED_MS: f64 = 5000.0;
const EXPOSURE: i64 = 156;
const GAIN: i64 = 64;
/// The time for the recorder to write the last samples: it writes on a thread of its own, and closing does not wait.
const SETTLE: Duration = Duration::from_millis(200);

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [path, serial, compressed, streams @ ..] = arguments.as_slice() else {
        return Err("Usage: record FILE SERIAL COMPRESSED STREAM...".into());
    };
    let streams = streams.iter().map(|text| parse(text)).collect::<Result<Vec<_>, _>>()?;
    let device = SoftwareDevice::new(serial, &streams)?;
    let recorder = Recorder::start(&device, Path::new(path), compressed.parse()?)?;
    feed(&device, &streams, &mut io::stdin().lock())?;
    thread::sleep(SETTLE);
    recorder.finish()
}

/// Records samples until the end of stdin.
fn feed(device: &SoftwareDevice, streams: &[Stream], samples: &mut impl Read) -> Result<(), Error> {
    let mut counts = vec![0_u32; streams.len()];
    let mut bytes = Vec::new();
    let began = Instant::now();
    loop {
        let due = |stream: usize| f64::from(counts[stream]) / f64::from(rate(streams[stream]));
        let next = (0..streams.len()).min_by(|a, b| due(*a).total_cmp(&due(*b)));
        let next = next.ok_or("name at least one stream")?;
        let seconds = due(next);
        bytes.resize(size(streams[next]), 0);
        match samples.read_exact(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            result => result?,
        }
        thread::sleep(Duration::from_secs_f64(seconds).saturating_sub(began.elapsed()));
        let info = FrameInfo {
            number: i32::try_from(counts[next])?,
            timestamp_ms: STARTED_MS + seconds * 1000.0,
            host_time: false,
            exposure: Some(EXPOSURE),
            gain: Some(GAIN),
        };
        device.push(next, &bytes, &info)?;
        counts[next] += 1;
    }
}

/// Samples per second.
fn rate(stream: Stream) -> u16 {
    match stream {
        Stream::Video { rate, .. } | Stream::Gyro(rate) | Stream::Accel(rate) => rate,
    }
}

/// The number of bytes of a sample.
fn size(stream: Stream) -> usize {
    let Stream::Video { pixels, width, height, .. } = stream else {
        return 3 * size_of::<f32>();
    };
    let bytes = match pixels {
        Pixels::Y8 => 1,
        Pixels::Yuyv | Pixels::Uyvy | Pixels::Y16 | Pixels::Z16 => 2,
        Pixels::Rgb8 | Pixels::Bgr8 => 3,
        Pixels::Rgba8 | Pixels::Bgra8 => 4,
    };
    bytes * usize::from(width) * usize::from(height)
}

/// Parses a stream argument.
fn parse(text: &str) -> Result<Stream, Error> {
    let unknown = || format!("{text:?} is not a stream such as color=yuyv:640x480@30");
    let (name, mode) = text.split_once('=').ok_or_else(unknown)?;
    let (format, rate) = mode.split_once('@').ok_or_else(unknown)?;
    let rate = rate.parse()?;
    let imager = match name {
        "gyro" => return Ok(Stream::Gyro(rate)),
        "accel" => return Ok(Stream::Accel(rate)),
        "color" => Imager::Color,
        "depth" => Imager::Depth,
        "infrared1" => Imager::Infrared(1),
        "infrared2" => Imager::Infrared(2),
        _ => return Err(unknown().into()),
    };
    let (pixels, size) = format.split_once(':').ok_or_else(unknown)?;
    let (width, height) = size.split_once('x').ok_or_else(unknown)?;
    let pixels = match pixels {
        "yuyv" => Pixels::Yuyv,
        "uyvy" => Pixels::Uyvy,
        "rgb8" => Pixels::Rgb8,
        "bgr8" => Pixels::Bgr8,
        "rgba8" => Pixels::Rgba8,
        "bgra8" => Pixels::Bgra8,
        "y8" => Pixels::Y8,
        "y16" => Pixels::Y16,
        "z16" => Pixels::Z16,
        _ => return Err(unknown().into()),
    };
    Ok(Stream::Video { imager, pixels, width: width.parse()?, height: height.parse()?, rate })
}
