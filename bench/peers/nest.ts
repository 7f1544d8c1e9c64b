/**
 * NestJS microservices over Redis. The variant `checked` has the ValidationPipe with class-validator, as its documentation has it for
 * microservices; `unchecked` has no pipe. Decorators are applied as functions: Node takes types away and compiles nothing.
 */
import "reflect-metadata"
import { Controller, Logger, Module, ValidationPipe } from "@nestjs/common"
import { NestFactory } from "@nestjs/core"
import {
  ClientProxyFactory,
  EventPattern,
  MessagePattern,
  type MicroserviceOptions,
  Payload as PayloadOf,
  type RedisOptions,
  RpcException,
  Transport
} from "@nestjs/microservices"
import { IsArray, IsBoolean, IsInt, IsNotEmpty, IsNumber, IsString } from "class-validator"
import { firstValueFrom, from } from "rxjs"
import { promises } from "../Meter.ts"
import * as Payload from "../Payload.ts"
import { handlers, inGroups, type Peer, type Setting } from "../Peer.ts"

Logger.overrideLogger(["error", "fatal"])

class PayloadDto {}
const field = (dto: Function, name: string, ...decorators: ReadonlyArray<PropertyDecorator>) => {
  for (const decorate of decorators) decorate(dto.prototype, name)
}
field(PayloadDto, "id", IsInt())
field(PayloadDto, "name", IsString(), IsNotEmpty())
field(PayloadDto, "email", IsString())
field(PayloadDto, "active", IsBoolean())
field(PayloadDto, "score", IsNumber())
field(PayloadDto, "tags", IsArray(), IsString({ each: true }))

class BlobDto {}
field(BlobDto, "id", IsInt())
field(BlobDto, "text", IsString())

const options = ({ redis }: Setting): RedisOptions => ({
  transport: Transport.REDIS,
  options: { host: new URL(redis).hostname, port: Number(new URL(redis).port), retryAttempts: 5, retryDelay: 200 }
})

/** Adds a method as a class with decorators would have it. */
const method = (
  controller: Function,
  name: string,
  decorator: (target: object, key: string, descriptor: any) => unknown,
  type: Function,
  handle: (payload: any) => unknown
) => {
  Object.defineProperty(controller.prototype, name, { value: handle, writable: true, configurable: true })
  Reflect.defineMetadata("design:paramtypes", [type], controller.prototype, name)
  PayloadOf()(controller.prototype, name, 0)
  decorator(controller.prototype, name, Object.getOwnPropertyDescriptor(controller.prototype, name)!)
}

const serve = async (setting: Setting, controllers: ReadonlyArray<any>) => {
  class App {}
  for (const controller of controllers) Controller()(controller)
  Module({ controllers: [...controllers] })(App)
  const app = await NestFactory.createMicroservice<MicroserviceOptions>(App, {
    ...options(setting),
    logger: ["error", "fatal"]
  })
  if (setting.variant === "checked") {
    app.useGlobalPipes(new ValidationPipe({ exceptionFactory: (errors) => new RpcException(errors) }))
  }
  await app.listen()
}

export const peer: Peer = {
  serve: (setting) => {
    class Echo {}
    const at = (op: string) => MessagePattern(`${setting.name}.${op}`)
    method(Echo, "echo", at("echo"), PayloadDto, handlers.echo)
    method(Echo, "wait", at("wait"), PayloadDto, handlers.wait)
    method(Echo, "hold", at("hold"), PayloadDto, handlers.hold)
    method(Echo, "blob", at("blob"), BlobDto, handlers.blob)
    method(Echo, "items", at("items"), Object, ({ count }: { readonly count: number }) =>
      from(Array.from({ length: count }, (_, id) => Payload.make(id)))
    )
    return serve(setting, [Echo])
  },
  connect: async (setting) => {
    const client = ClientProxyFactory.create(options(setting))
    await client.connect()
    const call = (op: string) => (payload: unknown) =>
      firstValueFrom(client.send<any>(`${setting.name}.${op}`, payload))
    return {
      calls: promises({ echo: call("echo"), wait: call("wait"), blob: call("blob"), hold: call("hold") }),
      stream: (count, take) => client.send<any>(`${setting.name}.items`, { count }).forEach(take),
      publish: inGroups(
        (message) => firstValueFrom(client.emit(`${setting.name}.happened`, message), { defaultValue: undefined }),
        Payload.make
      )
    }
  },
  listen: (setting, listeners, heard) =>
    serve(
      setting,
      Array.from({ length: listeners }, () => {
        class Listener {}
        method(Listener, "happened", EventPattern(`${setting.name}.happened`), PayloadDto, (message) => heard(message))
        return Listener
      })
    )
}
