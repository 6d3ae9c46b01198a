import type { ServerConnection } from "@jupyterlab/services";
import type { IDisposable } from "@lumino/disposable";
import compare from "../../../verl_lab/widgets/front/compare.js";
import panel from "../../../verl_lab/widgets/front/panel.js";
import "../../../verl_lab/widgets/style/panel.css";
import "../../../verl_lab/widgets/style/panes.css";
import "../../style/renderer.css";
import { Connection } from "./connection";
import { type PanelOutput, socketPath } from "./output";

/**
 * Draw a run, a replay or a comparison into an element, live from the server, until it is disposed.
 *
 * `gone` is called, with what the server says, where it cannot show this; by default that is written into the
 * element.
 */
export function mountPanel(
  element: HTMLElement,
  output: PanelOutput,
  settings: ServerConnection.ISettings,
  gone?: (why: string) => void,
): IDisposable {
  const say = (why: string): void => {
    const said = document.createElement("p");
    said.className = "verl-lab-gone";
    said.textContent = why;
    element.replaceChildren(said);
  };
  let end: (() => void) | null = null;
  const dispose = (): void => {
    connection.close();
    end?.();
    end = null;
    element.replaceChildren();
  };
  const connection = new Connection(settings, socketPath(output), (why) => {
    dispose();
    (gone ?? say)(why);
  });
  end = (output.view === "compare" ? compare : panel).render({ model: connection as never, el: element });
  return {
    dispose,
    get isDisposed() {
      return end === null;
    },
  };
}
