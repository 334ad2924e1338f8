//! Parses the report blocks of RTCP packets (RFC 3550, section 6.4) from the network.

/// The packet types of sender reports and receiver reports.
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
/// The length of a report block in bytes.
const BLOCK: usize = 24;

/// The peer's report on a local stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReportBlock {
    /// The stream.
    pub(crate) ssrc: u32,
    /// The number of packets lost since the start, which duplicates can make negative.
    pub(crate) lost: i32,
    /// The highest sequence number received, extended by the number of cycles.
    pub(crate) highest: u32,
}

/// The report blocks of a compound packet. A malformed packet ends the list.
pub(crate) fn report_blocks(mut compound: &[u8]) -> Vec<ReportBlock> {
    let mut blocks = Vec::new();
    while let Some((header, _)) = compound.split_first_chunk::<4>() {
        let [first, kind, high, low] = *header;
        let length = 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
        let Some((packet, rest)) = compound.split_at_checked(length) else { break };
        let head = match kind {
            SENDER_REPORT => 28,
            RECEIVER_REPORT => 8,
            _ => packet.len(),
        };
        let list = packet.get(head..).unwrap_or_default();
        blocks.extend(list.chunks_exact(BLOCK).take(usize::from(first & 0x1f)).filter_map(block));
        compound = rest;
    }
    blocks
}

fn block(bytes: &[u8]) -> Option<ReportBlock> {
    let (ssrc, rest) = bytes.split_first_chunk::<4>()?;
    let (&[_fraction, high, mid, low], rest) = rest.split_first_chunk::<4>()?;
    let (highest, _) = rest.split_first_chunk::<4>()?;
    // 24 bits with a sign: shifted up and down again, which extends the sign.
    let lost = i32::from_be_bytes([high, mid, low, 0]) >> 8;
    Some(ReportBlock { ssrc: u32::from_be_bytes(*ssrc), lost, highest: u32::from_be_bytes(*highest) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(ssrc: u32, lost: [u8; 3], highest: u32) -> Vec<u8> {
        let mut bytes = ssrc.to_be_bytes().to_vec();
        bytes.push(25);
        bytes.extend(lost);
        bytes.extend(highest.to_be_bytes());
        bytes.extend([0; 12]);
        bytes
    }

    fn packet(first: u8, kind: u8, body: &[u8]) -> Vec<u8> {
        let words = u16::try_from(body.len() / 4).expect("a short packet");
        [&[first, kind], &words.to_be_bytes()[..], body].concat()
    }

    #[test]
    fn the_blocks_of_sender_and_receiver_reports_are_read() {
        let receiver = packet(
            0x82,
            201,
            &[vec![0; 4], report(7, [0, 0, 5], 0x1_0002), report(8, [0xff; 3], 9)].concat(),
        );
        let feedback = packet(0x81, 206, &[0; 8]);
        let sender = packet(0x81, 200, &[vec![0; 24], report(9, [0, 1, 0], 3)].concat());
        assert_eq!(
            report_blocks(&[receiver, feedback, sender].concat()),
            [
                ReportBlock { ssrc: 7, lost: 5, highest: 0x1_0002 },
                ReportBlock { ssrc: 8, lost: -1, highest: 9 },
                ReportBlock { ssrc: 9, lost: 256, highest: 3 },
            ]
        );
    }

    #[test]
    fn truncated_packets_and_false_counts_yield_no_blocks() {
        let whole = packet(0x81, 201, &[vec![0; 4], report(7, [0, 0, 5], 1)].concat());
        for length in 0..whole.len() {
            assert_eq!(report_blocks(whole.get(..length).expect("a part")), [], "{length} bytes");
        }
        let greedy = packet(0x9f, 201, &[vec![0; 4], report(7, [0, 0, 5], 1)].concat());
        assert_eq!(report_blocks(&greedy).len(), 1);
        assert_eq!(report_blocks(&packet(0x9f, 200, &[0; 8])), []);
    }
}
