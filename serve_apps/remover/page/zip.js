// Packs finished files into a zip without compressing them again. Source: APPNOTE.TXT 6.3.10, sections 4.3 and 4.4.

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = TABLE[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

function record(signature, fields) {
  const size = 4 + fields.reduce((sum, [, width]) => sum + width, 0);
  const view = new DataView(new ArrayBuffer(size));
  view.setUint32(0, signature, true);
  let at = 4;
  for (const [value, width] of fields) {
    if (width === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += width;
  }
  return new Uint8Array(view.buffer);
}

/** Pack {name, bytes} entries into one Blob. */
export function zip(entries) {
  const parts = [];
  const directory = [];
  let offset = 0;
  const DATE = (1 << 5) | 1; // 1 January 1980: when a cutout was made is nobody's business
  for (const { name, bytes } of entries) {
    const label = new TextEncoder().encode(name);
    const sum = crc32(bytes);
    // version, flags (names are UTF-8), method (stored), time, date, checksum, sizes, length of the name, of extras
    const shared = [[20, 2], [0x800, 2], [0, 2], [0, 2], [DATE, 2], [sum, 4], [bytes.length, 4], [bytes.length, 4], [label.length, 2], [0, 2]];
    const head = record(0x04034b50, shared);
    parts.push(head, label, bytes);
    directory.push(record(0x02014b50, [[20, 2], ...shared, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]]), label);
    offset += head.length + label.length + bytes.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const count = entries.length;
  const end = record(0x06054b50, [[0, 2], [0, 2], [count, 2], [count, 2], [size, 4], [offset, 4], [0, 2]]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}
