//! What one access unit is, as far as a receiver that joins now, and an operator, need to know.

/// Where decoding can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccessUnitKind {
    /// An instantaneous decoding refresh: nothing after it refers to anything before it. H.264: an IDR picture;
    /// VP8: a key frame.
    Idr,
    /// A recovery point: a decoder that starts here shows correct pictures after a while (H.264, D.2.8).
    RecoveryPoint,
    /// Only intra prediction, but pictures after it may refer to pictures before it.
    Intra,
    /// Refers to other pictures.
    Delta,
}

/// An access unit, read up to what its first slice tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AccessUnit<'a> {
    pub(crate) kind: AccessUnitKind,
    /// It has B slices, which predict from two pictures and usually arrive out of presentation order.
    pub(crate) bidirectional: bool,
    /// The parameter sets in it, without start codes (H.264: SPS and PPS).
    pub(crate) parameter_sets: Vec<&'a [u8]>,
    /// The offset at which parameter sets can be inserted: after an access unit delimiter.
    pub(crate) insert_at: usize,
}

impl AccessUnit<'_> {
    /// A unit without any of the optional parts.
    pub(crate) fn new(kind: AccessUnitKind) -> Self {
        Self { kind, bidirectional: false, parameter_sets: Vec::new(), insert_at: 0 }
    }
}

/// How color is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chroma {
    /// 4:0:0, gray.
    Monochrome,
    Yuv420,
    Yuv422,
    Yuv444,
}

/// The format of the pictures, read from the bitstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VideoFormat {
    /// The name of the profile in GStreamer's caps.
    pub(crate) profile: &'static str,
    pub(crate) chroma: Chroma,
    /// Bits for each sample: the larger of luma and chroma.
    pub(crate) bit_depth: u8,
    /// The size of the picture that is shown, in pixels.
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Pictures may be coded as fields.
    pub(crate) interlaced: bool,
    /// Pictures a second as a fraction, where the bitstream tells it.
    pub(crate) frame_rate: Option<(u32, u32)>,
}
