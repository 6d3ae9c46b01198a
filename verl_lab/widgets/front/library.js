// The drawing library: fetched once for all panels of a page, from whichever kernel answers.

const LIBRARY = Symbol.for("verl-lab.plotly");
const ASK_AGAIN_MS = 10_000;

function sharedLibrary() {
  return (globalThis[LIBRARY] ??= {
    page: crypto.getRandomValues(new Uint32Array(2)).join("-"),
    askedAt: -Infinity,
    loading: null,
    plotly: null,
    waiting: new Set(),
  });
}

async function loadLibrary(shared, zipped) {
  const plain = new Blob([zipped]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = await new Response(plain).blob();
  // The file is a UMD module: given `module`, it exports there. It also sets a global, which is put
  // back, since a page may hold another Plotly.
  const before = globalThis.Plotly;
  const parts = ["const module = { exports: {} };\n", script, "\nexport default module.exports;"];
  const url = URL.createObjectURL(new Blob(parts, { type: "text/javascript" }));
  try {
    shared.plotly = (await import(/* webpackIgnore: true */ url)).default;
  } finally {
    URL.revokeObjectURL(url);
    globalThis.Plotly = before;
  }
  for (const ready of shared.waiting) ready(shared.plotly);
  shared.waiting.clear();
}

/**
 * Get Plotly for one panel: `use(Plotly)` is called when it is there, `failed(text)` if it cannot be
 * loaded. `heard(buffers)` takes the kernel's answer.
 */
export function wantLibrary(send, use, failed) {
  const shared = sharedLibrary();
  const ask = () => {
    if (shared.plotly || performance.now() - shared.askedAt < ASK_AGAIN_MS) return;
    shared.askedAt = performance.now();
    send({ type: "library", page: shared.page });
  };
  const ready = (plotly) => {
    clearInterval(asking);
    use(plotly);
  };
  const asking = setInterval(ask, 1000);
  if (shared.plotly) ready(shared.plotly);
  else shared.waiting.add(ready);
  ask();
  return {
    page: shared.page,
    heard(buffers) {
      if (shared.loading) return;
      shared.loading = loadLibrary(shared, buffers[0]).catch((error) => {
        shared.loading = null;
        failed(`The charts cannot be drawn: ${error.message}`);
      });
    },
    destroy() {
      shared.waiting.delete(ready);
      clearInterval(asking);
    },
  };
}
