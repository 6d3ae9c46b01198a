// The drawing library: fetched once for all panels of a page, as a file of the server or from whichever kernel answers.

const LIBRARY = Symbol.for("verl-lab.plotly");
const ASK_AGAIN_MS = 10_000;

function sharedLibrary() {
  return (globalThis[LIBRARY] ??= {
    page: crypto.getRandomValues(new Uint32Array(2)).join("-"),
    askedAt: -Infinity,
    asker: null,
    loading: null,
    plotly: null,
    waiting: new Set(),
  });
}

/** Load it from what a kernel or a server has sent: compressed, as the package has it. */
async function unpackLibrary(shared, zipped) {
  const plain = new Blob([zipped]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = await new Response(plain).blob();
  // The file is a UMD module: given `module`, it exports there.
  const parts = ["const module = { exports: {} };\n", script, "\nexport default module.exports;"];
  const url = URL.createObjectURL(new Blob(parts, { type: "text/javascript" }));
  try {
    await loadLibrary(shared, url);
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Load it as a module, and hand it to all who wait. */
async function loadLibrary(shared, url) {
  // It also sets a global, which is put back, since a page may hold another Plotly.
  const before = globalThis.Plotly;
  try {
    shared.plotly = (await import(/* webpackIgnore: true */ url)).default;
  } finally {
    globalThis.Plotly = before;
  }
  for (const ready of shared.waiting) ready(shared.plotly);
  shared.waiting.clear();
}

/**
 * Get Plotly for one panel: `use(Plotly)` is called when it is there, `failed(text)` if it cannot be
 * loaded. `heard(buffers)` takes the kernel's answer. A `url` is tried first: of a file the browser keeps what
 * it has compiled, which takes seconds on a busy machine.
 */
export function wantLibrary(send, use, failed, url = null) {
  const shared = sharedLibrary();
  const ask = () => {
    if (shared.plotly || shared.loading || performance.now() - shared.askedAt < ASK_AGAIN_MS) return;
    shared.askedAt = performance.now();
    shared.asker = send;
    send({ type: "library", page: shared.page });
  };
  const ready = (plotly) => {
    clearInterval(asking);
    use(plotly);
  };
  const asking = setInterval(ask, 1000);
  if (shared.plotly) ready(shared.plotly);
  else shared.waiting.add(ready);
  if (url && !shared.plotly) {
    shared.loading ??= loadLibrary(shared, url).catch(() => {
      shared.loading = null;
      ask();
    });
  }
  ask();
  return {
    page: shared.page,
    heard(buffers) {
      if (shared.loading) return;
      shared.loading = unpackLibrary(shared, buffers[0]).catch((error) => {
        shared.loading = null;
        failed(`The charts cannot be drawn: ${error.message}`);
      });
    },
    destroy() {
      // What this one has asked for goes to nobody: another may ask at once.
      if (shared.asker === send) shared.askedAt = -Infinity;
      shared.waiting.delete(ready);
      clearInterval(asking);
    },
  };
}
