export interface Content {
  type: string;
  [name: string]: unknown;
}

export interface Frame {
  content: Content;
  buffers: DataView[];
}

const LENGTH_BYTES = 4;

/**
 * Read a message: the length of a JSON text (four bytes, little-endian), that text with the content and the
 * buffers' lengths, and the buffers one after the other.
 */
export function readFrame(bytes: ArrayBuffer): Frame {
  const size = new DataView(bytes).getUint32(0, true);
  const text = new TextDecoder().decode(new Uint8Array(bytes, LENGTH_BYTES, size));
  const { content, buffers } = JSON.parse(text) as { content: Content; buffers: number[] };
  let at = LENGTH_BYTES + size;
  return {
    content,
    buffers: buffers.map((length) => {
      const buffer = new DataView(bytes, at, length);
      at += length;
      return buffer;
    }),
  };
}
