// Writes the types of asyncapi.yaml, and each message of a session as a value of its type. Arguments: DOCUMENT SESSION FILE.
// The TypeScript compiler then reports each message that does not match its type, for example because of an unknown field.
import { readFileSync, writeFileSync } from 'node:fs'
import { TypeScriptGenerator } from '@asyncapi/modelina'

const [document, session, file] = process.argv.slice(2)
const generator = new TypeScriptGenerator({ modelType: 'interface', rawPropertyNames: true, enumType: 'union', mapType: 'record' })
const models = await generator.generate(readFileSync(document, 'utf8'))
const names = new Set(models.map(model => model.modelName))
const known = { resync_required: 'ResyncRequired', error: 'ErrorMessage', token_expires: 'TokenExpires', token_accepted: 'TokenAccepted' }
const { said, heard } = JSON.parse(readFileSync(session, 'utf8'))
const values = [...said, ...heard].map((message, at) => {
  const name = known[message.type] ?? message.type[0].toUpperCase() + message.type.slice(1)
  return `export const message${at}: ${names.has(name) ? name : 'StoreEvent'} = ${JSON.stringify(message)}`
})
writeFileSync(file, [...models.map(model => model.result), ...values].join('\n'))
