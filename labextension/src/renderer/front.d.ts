// The widget's own front end: JavaScript in the Python package, which draws here too.
interface Model {
  send(content: object): void;
  on(event: string, does: (...said: never[]) => void): void;
  off(event: string, does: (...said: never[]) => void): void;
}

interface View {
  /** Draws into `el`; what is returned ends that. */
  render(into: { model: Model; el: HTMLElement }): () => void;
}

declare module "*/front/panel.js" {
  const view: View;
  export default view;
}

declare module "*/front/compare.js" {
  const view: View;
  export default view;
}
