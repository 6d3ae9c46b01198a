import { panelPlugin } from "./plugin";
import { rendererPlugin } from "./renderer/plugin";

export default [panelPlugin, rendererPlugin];
